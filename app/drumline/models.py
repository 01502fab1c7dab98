"""What Drumline remembers in the database."""

from django.db import models
from django_celery_beat.models import PeriodicTask


class Heartbeat(models.Model):
    """When a process last said that it is alive, and where it runs."""

    name = models.CharField(max_length=200, unique=True)
    host = models.CharField(max_length=255)
    pid = models.PositiveIntegerField()
    at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return f"{self.name} on {self.host}"


class CodeScheduleEntry(models.Model):
    """Marks a periodic task as defined by the code; every other one belongs to an operator."""

    periodic_task = models.OneToOneField(PeriodicTask, on_delete=models.CASCADE, related_name="code_entry")

    class Meta:
        verbose_name_plural = "code schedule entries"

    def __str__(self) -> str:
        return str(self.periodic_task.name)
