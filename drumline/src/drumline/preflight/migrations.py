"""What the unapplied migrations take from the release that runs.

Migrations run before the switch, so the old code meets the new schema until its last process has ended, and again after a
rollback. What it uses follows from the state of the models that the applied migrations give. SQL and Python of a migration
are not read: a column that no model has any more is dropped by them.
"""

from collections.abc import Iterator
from typing import Any

from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.migration import Migration
from django.db.migrations.operations import SeparateDatabaseAndState
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState
from django.db.models import NOT_PROVIDED

# The field of a column, by table and column. That of a table between two models has no column.
Columns = dict[tuple[str, str], Any]


def breaking_migrations() -> Iterator[str]:
    """Yield a line for each thing that an unapplied migration removes from the running release or asks of it.

    Raises DatabaseError or InterfaceError when the database cannot be asked what is applied.
    """
    executor = MigrationExecutor(connection)
    loader = executor.loader
    targets = loader.graph.leaf_nodes()
    state = ProjectState(real_apps=loader.unmigrated_apps)
    plan = []
    for migration, _ in executor.migration_plan(targets, clean_start=True):
        if (migration.app_label, migration.name) in loader.applied_migrations:
            migration.mutate_state(state, preserve=False)
        else:
            plan.append(migration)
    if not plan:
        return
    used = _columns(state)
    for migration in plan:
        for what in _breaks(migration, state, used):
            yield f"{migration.app_label}.{migration.name} {what}"


def _breaks(migration: Migration, state: ProjectState, used: Columns) -> Iterator[str]:
    """Take the state through a migration, and yield what it does to columns that are used."""
    for operation in migration.operations:
        for step in _in_database(operation):
            reached = state.clone()
            step.state_forwards(migration.app_label, reached)
            yield from _differences(_columns(state), _columns(reached), used)
        operation.state_forwards(migration.app_label, state)


def _in_database(operation: Operation) -> list[Operation]:
    return list(operation.database_operations) if isinstance(operation, SeparateDatabaseAndState) else [operation]


def _differences(before: Columns, after: Columns, used: Columns) -> Iterator[str]:
    tables, kept = {table for table, _ in used}, {table for table, _ in after}
    gone = [key for key in before if key in used and key not in after]
    for table in dict.fromkeys(table for table, _ in gone if table not in kept):
        yield f"removes or renames the table {table}"
    for table, column in gone:
        if table in kept:
            yield f"removes or renames the column {table}.{column}"
    for (table, column), field in after.items():
        if table not in tables or field.many_to_many or field.null:
            continue
        if (table, column) not in before and not _is_filled(field):
            yield f"adds the column {table}.{column}, which must have a value and has no default in the database"
        elif (table, column) in used and before[table, column].null:
            yield f"no longer allows NULL in the column {table}.{column}"


def _columns(state: ProjectState) -> Columns:
    found: Columns = {}
    for model in state.models.values():
        if model.options.get("proxy") or not model.options.get("managed", True):
            continue
        table = model.options.get("db_table") or f"{model.app_label}_{model.name_lower}"
        for name, field in model.fields.items():
            if not field.many_to_many:
                is_key = field.many_to_one or field.one_to_one
                found[table, field.db_column or (f"{name}_id" if is_key else name)] = field
            elif field.remote_field.through is None:
                found[field.db_table or f"{table}_{name}", ""] = field
    return found


def _is_filled(field: Any) -> bool:
    """Whether the database gives a value to a row that does not."""
    return (
        # From Django 5.0 on.
        getattr(field, "db_default", NOT_PROVIDED) is not NOT_PROVIDED
        or getattr(field, "generated", False)
        or field.get_internal_type().endswith("AutoField")
    )
