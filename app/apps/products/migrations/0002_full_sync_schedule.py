"""An entry of the schedule that only the database holds: an operator may change it, turn it off or delete it."""

from typing import Any

from django.db import migrations

NAME = "products: copy the whole stock"


def create(apps: Any, _schema_editor: Any) -> None:
    every, _ = apps.get_model("django_celery_beat", "IntervalSchedule").objects.get_or_create(every=6, period="hours")
    apps.get_model("django_celery_beat", "PeriodicTask").objects.get_or_create(
        name=NAME,
        defaults={
            "task": "products.sync_inventory",
            "kwargs": '{"full": true}',
            "interval": every,
            # Tried for an hour; the next one comes in any case.
            "expire_seconds": 3600,
            "description": "The code's own entry copies each minute what the supplier changed; this one reads everything.",
        },
    )


def delete(apps: Any, _schema_editor: Any) -> None:
    apps.get_model("django_celery_beat", "PeriodicTask").objects.filter(name=NAME).delete()


class Migration(migrations.Migration):
    dependencies = [
        ("products", "0001_initial"),
        ("django_celery_beat", "0019_alter_periodictasks_options"),
    ]

    operations = [migrations.RunPython(create, delete)]
