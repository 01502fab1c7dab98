"""Operations that Django lacks, or has only since version 5."""

from typing import Any

from django.db import migrations


class AddFieldWithDefault(migrations.AddField):
    """Adds a column that keeps its default in the database.

    Processes of the release before run on while a deployment migrates, and insert rows without the column. Django's own
    `db_default` would do, but Django 4.2 does not have it.
    """

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        super().database_forwards(app_label, schema_editor, from_state, to_state)
        model = to_state.apps.get_model(app_label, self.model_name)
        database = schema_editor.connection
        # SQLite cannot alter a column, and has no rolling deployments.
        if database.vendor != "postgresql" or not self.allow_migrate_model(database.alias, model):
            return
        field = model._meta.get_field(self.name)
        schema_editor.execute(
            f"ALTER TABLE {schema_editor.quote_name(model._meta.db_table)} "
            f"ALTER COLUMN {schema_editor.quote_name(field.column)} "
            f"SET DEFAULT {schema_editor.quote_value(field.get_default())}"
        )
