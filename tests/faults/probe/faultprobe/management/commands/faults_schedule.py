"""faults_schedule ENTRIES: add periodic tasks; print the id of each, and the moment from which it counts."""

import json
from datetime import datetime, timedelta

from django.apps import apps
from django.core.management.base import BaseCommand
from django.db import transaction
from django_celery_beat.models import ClockedSchedule, CrontabSchedule, IntervalSchedule, PeriodicTask


def when(*, seconds: int, minutes: int, at: str | None) -> dict:
    """Return the schedule, as the model's fields."""
    if at:
        return {"clocked": ClockedSchedule.objects.create(clocked_time=datetime.fromisoformat(at)), "one_off": True}
    if minutes:
        return {"crontab": CrontabSchedule.objects.create(minute=f"*/{minutes}")}
    return {"interval": IntervalSchedule.objects.get_or_create(every=seconds, period="seconds")[0]}


def add(*, name: str, policy: str, behind: int | None, **schedule: object) -> list:
    """Add one that had its last run so many seconds ago, or never yet."""
    entry = PeriodicTask(name=name, task="faults.scheduled", args=json.dumps([name]), **when(**schedule))
    entry.save()
    if behind is not None:
        entry.last_run_at = entry.date_changed - timedelta(seconds=behind)
        entry.save()
    if apps.is_installed("drumline.beat"):
        from drumline.beat.models import MissedRuns

        MissedRuns.objects.create(periodic_task=entry, policy=policy)
    return [entry.pk, (entry.last_run_at or entry.date_changed).isoformat()]


class Command(BaseCommand):
    """Add them all at once, so that no beat sees a part."""

    def add_arguments(self, parser) -> None:
        """Declare the entries."""
        parser.add_argument("json")

    @transaction.atomic
    def handle(self, *_args, **options) -> None:
        """Add, and print what was added."""
        self.stdout.write(json.dumps({entry["name"]: add(**entry) for entry in json.loads(options["json"])}))
