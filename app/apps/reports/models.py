"""Reports and their files."""

from datetime import date, datetime, timedelta
from typing import ClassVar
from uuid import uuid4

from django.conf import settings
from django.db import models

# One page a day.
PAGES_MAX = 500
# Reports that an account may have at once.
QUOTA = 100
# For how long a report is kept after it was asked for.
KEPT = timedelta(days=7)


class Report(models.Model):
    """What happened to an account in the days up to `last_day`, one page a day, as a PDF.

    It is ready once `finished_at` is set. How its task fares until then is in the ledger, and nowhere twice: so there is
    no state here that a killed worker could leave wrong (see `selectors.reports`).
    """

    class State(models.TextChoices):
        """Where a report stands."""

        QUEUED = "queued"
        RUNNING = "running"
        READY = "ready"
        FAILED = "failed"

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="reports")
    last_day = models.DateField()
    pages = models.PositiveIntegerField()
    pages_done = models.PositiveIntegerField(default=0)
    task_id = models.UUIDField(default=uuid4, unique=True, editable=False)
    requested_at = models.DateTimeField(auto_now_add=True, db_index=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(condition=models.Q(pages__range=(1, PAGES_MAX)), name="reports_report_pages"),
        ]

    def __str__(self) -> str:
        return f"{self.pages} days up to {self.last_day} of {self.user_id}"

    @property
    def first_day(self) -> date:
        """Return the day of the first page."""
        return self.last_day - timedelta(days=self.pages - 1)

    @property
    def expires_at(self) -> datetime:
        """Return when it may be deleted."""
        return self.requested_at + KEPT


class ReportFile(models.Model):
    """A finished report's bytes, apart so that nothing but a download reads them.

    They are in the database because the worker that makes them and the web host that serves them share no file system,
    and because they appear in the same transaction as `Report.finished_at`. That is right for a few megabytes that are
    kept for a few days. Larger files, or ones that are kept, belong in an object storage: upload under the report's id
    first, then set `finished_at`, and let the web host redirect to a signed URL.
    """

    report = models.OneToOneField(Report, on_delete=models.CASCADE, primary_key=True, related_name="file")
    content = models.BinaryField()
    sha256 = models.CharField(max_length=64)

    def __str__(self) -> str:
        return f"the file of report {self.report_id}"
