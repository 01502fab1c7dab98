from typing import Any

from django.db import migrations, models


def set_unlogged(_apps: Any, schema_editor: Any) -> None:
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute("ALTER TABLE api_requestcount SET UNLOGGED")


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="RequestCount",
            fields=[
                (
                    "key",
                    models.CharField(
                        help_text="The kind of request and the caller.",
                        max_length=200,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("number", models.PositiveIntegerField()),
                ("ends_at", models.DateTimeField(db_index=True, help_text="When the next window may begin.")),
            ],
        ),
        migrations.RunPython(set_unlogged, migrations.RunPython.noop),
    ]
