from typing import Any

import django.db.models.deletion
from django.apps import apps as installed
from django.db import migrations, models
from django.db.migrations.recorder import MigrationRecorder

# These models were of the app `drumline`; a database that it migrated has their tables, and keeps the rows.
MODELS = ("codescheduleentry", "missedruns")
FORMER = ("drumline", "0003_missed_runs")


def was_taken_over(schema_editor: Any) -> bool:
    return FORMER in MigrationRecorder(schema_editor.connection).applied_migrations()


class CreateOrTakeOver(migrations.CreateModel):
    """Creates the table where it is missing; its removal leaves one that was taken over to its former owner."""

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        table = to_state.apps.get_model(app_label, self.name)._meta.db_table
        if table not in schema_editor.connection.introspection.table_names():
            super().database_forwards(app_label, schema_editor, from_state, to_state)

    def database_backwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        if not was_taken_over(schema_editor):
            super().database_backwards(app_label, schema_editor, from_state, to_state)


def take_content_types(apps: Any, schema_editor: Any) -> None:
    """Keep the permissions that were granted on the models, and the admin's history: they refer to content types."""
    move_content_types(apps, schema_editor, giver="drumline", taker="drumline_beat")


def return_content_types(apps: Any, schema_editor: Any) -> None:
    if was_taken_over(schema_editor):
        move_content_types(apps, schema_editor, giver="drumline_beat", taker="drumline")


def move_content_types(apps: Any, schema_editor: Any, *, giver: str, taker: str) -> None:
    if not installed.is_installed("django.contrib.contenttypes"):
        return
    content_types = apps.get_model("contenttypes", "ContentType").objects.using(schema_editor.connection.alias)
    present = content_types.filter(app_label=taker, model__in=MODELS).values_list("model", flat=True)
    content_types.filter(app_label=giver, model__in=MODELS).exclude(model__in=list(present)).update(app_label=taker)


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("django_celery_beat", "0019_alter_periodictasks_options"),
        *(
            [("contenttypes", "0002_remove_content_type_name")]
            if installed.is_installed("django.contrib.contenttypes")
            else []
        ),
    ]

    operations = [
        CreateOrTakeOver(
            name="CodeScheduleEntry",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "periodic_task",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="code_entry",
                        to="django_celery_beat.periodictask",
                    ),
                ),
            ],
            options={
                "db_table": "drumline_codescheduleentry",
                "verbose_name_plural": "code schedule entries",
            },
        ),
        CreateOrTakeOver(
            name="MissedRuns",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "policy",
                    models.CharField(
                        choices=[
                            ("once", "once: one run for all that were missed"),
                            ("all", "all: every run that was missed"),
                            ("skip", "skip: none, the next one is the next that is due"),
                        ],
                        default="once",
                        max_length=10,
                    ),
                ),
                (
                    "periodic_task",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="missed_runs",
                        to="django_celery_beat.periodictask",
                    ),
                ),
            ],
            options={
                "db_table": "drumline_missedruns",
                "verbose_name_plural": "missed runs",
            },
        ),
        migrations.RunPython(take_content_types, return_content_types),
    ]
