"""What a release knows, and what an older one would not know of what this one left behind.

A release writes its manifest when it is installed. Before a rollback the release that runs compares the older one's
manifest with the database: only the newer one has the code that undoes its own migrations.
"""

import inspect
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from celery import Celery
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader
from django.db.models import Count

from drumline.ledger.selectors import PUBLISHED, UNPUBLISHED
from drumline.models import DurableTask


@dataclass(frozen=True)
class Manifest:
    """What a release knows: migrations by app, and the signature of each task by name."""

    migrations: dict[str, list[str]]
    tasks: dict[str, str]

    @classmethod
    def of(cls, app: Celery) -> "Manifest":
        """Return that of the code that runs."""
        migrations: dict[str, list[str]] = {}
        for label, name in sorted(MigrationLoader(None).disk_migrations):
            migrations.setdefault(label, []).append(name)
        return cls(migrations, {name: _signature(task) for name, task in sorted(app.tasks.items())})

    @classmethod
    def read(cls, found: Any) -> "Manifest":
        """Return one from JSON; raise ValueError when it is none."""
        try:
            return cls(
                {str(label): [str(name) for name in names] for label, names in found["migrations"].items()},
                {str(name): str(signature) for name, signature in found["tasks"].items()},
            )
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError("this is not the manifest of a release") from error

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return asdict(self)


@dataclass(frozen=True)
class Undo:
    """A migration that a rollback would undo."""

    app: str
    name: str
    reversible: bool

    def __str__(self) -> str:
        return f"{self.app}.{self.name}"


def migrations_to_undo(older: Manifest) -> list[Undo]:
    """Return the applied migrations that the older release does not have, in the order in which they are undone."""
    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(_targets(executor, older), clean_start=False)
    return [
        Undo(migration.app_label, migration.name, all(operation.reversible for operation in migration.operations))
        for migration, backwards in plan
        if backwards
    ]


def undo_migrations(older: Manifest) -> None:
    """Undo what the older release does not have."""
    executor = MigrationExecutor(connection)
    targets = _targets(executor, older)
    executor.migrate(targets, executor.migration_plan(targets))


def _targets(executor: MigrationExecutor, older: Manifest) -> list[tuple[str, str | None]]:
    loader = executor.loader
    applied = set(loader.applied_migrations)
    unknown = {
        (label, name)
        for label, name in applied & set(loader.graph.nodes)
        if name not in older.migrations.get(label, [])
    }
    # Going back to a migration undoes all that depends on it, and to None undoes the app's first one as well.
    targets: list[tuple[str, str | None]] = []
    for label in sorted({label for label, _ in unknown}):
        kept = [node for node in loader.graph.nodes if node[0] == label and node in applied - unknown]
        latest = [node for node in kept if not any(child in kept for child in _children(loader, node))]
        targets += latest or [(label, None)]
    return targets


def _children(loader: MigrationLoader, node: tuple[str, str]) -> Iterator[tuple[str, str]]:
    for child in loader.graph.node_map[node].children:
        yield child.key


def waiting_tasks_unknown_to(app: Celery, older: Manifest) -> Iterator[str]:
    """Yield one line for each name of tasks that wait and that the older release cannot run."""
    waiting = DurableTask.objects.filter(**PUBLISHED) | DurableTask.objects.filter(**UNPUBLISHED)
    for name, count in waiting.values_list("name").annotate(Count("id")).order_by("name"):
        if name not in older.tasks:
            yield (
                f"{name}: {count} wait, and the older release has no such task; let them run first, "
                "or discard them in the admin"
            )
        elif name in app.tasks and older.tasks[name] != (now := _signature(app.tasks[name])):
            yield (
                f"{name}: {count} wait, and it takes {now} now and {older.tasks[name]} in the older release; "
                "let them run first"
            )


def irreversible(undone: Iterable[Undo]) -> list[Undo]:
    """Return those that cannot be undone."""
    return [migration for migration in undone if not migration.reversible]


def _signature(task: Any) -> str:
    try:
        return str(inspect.signature(task.run))
    except (TypeError, ValueError):
        return "(...)"
