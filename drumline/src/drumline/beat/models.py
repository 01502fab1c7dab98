"""What Drumline remembers of a periodic task, beside the row that django-celery-beat keeps of it."""

from django.db import models
from django_celery_beat.models import PeriodicTask


class CodeScheduleEntry(models.Model):
    """Marks a periodic task as defined by the code; every other one belongs to an operator."""

    periodic_task = models.OneToOneField(PeriodicTask, on_delete=models.CASCADE, related_name="code_entry")

    class Meta:
        db_table = "drumline_codescheduleentry"
        verbose_name_plural = "code schedule entries"

    def __str__(self) -> str:
        return str(self.periodic_task.name)


class MissedRuns(models.Model):
    """What becomes of a periodic task's runs that were due while no beat ran; without a row it is `once`."""

    class Policy(models.TextChoices):
        """How many of the missed runs are made up."""

        ONCE = "once", "once: one run for all that were missed"
        ALL = "all", "all: every run that was missed"
        SKIP = "skip", "skip: none, the next one is the next that is due"

    periodic_task = models.OneToOneField(PeriodicTask, on_delete=models.CASCADE, related_name="missed_runs")
    policy = models.CharField(max_length=10, choices=Policy.choices, default=Policy.ONCE)

    class Meta:
        db_table = "drumline_missedruns"
        verbose_name_plural = "missed runs"

    def __str__(self) -> str:
        return f"{self.periodic_task.name}: {self.policy}"
