"""Asking for reports, making them, and deleting old ones."""

import hashlib
import time
from collections.abc import Iterator
from datetime import date, timedelta
from tempfile import TemporaryFile

import structlog
from celery import signature
from celery.exceptions import SoftTimeLimitExceeded
from django.db import transaction
from django.utils import timezone

from apps.reports import pdf
from apps.reports.models import KEPT, QUOTA, Report, ReportFile
from apps.reports.selectors import Event, events_of_day
from apps.users.models import User
from drumline import owned

logger = structlog.get_logger(__name__)

# Seconds between two notes of how far a report is: often enough for a person who watches, and next to no work.
PROGRESS = 1.0


class TooManyReportsError(Exception):
    """The account has as many reports as it may; the oldest must expire first."""


@transaction.atomic
def report_request(*, user_id: int, days: int) -> Report:
    """Have a report made of the account's last days, today included; raise TooManyReportsError beyond the quota.

    The task is sent inside the transaction, as the ledger allows: so there is never a report that nobody makes.
    """
    # Locked, so that of two requests at the same moment each counts the other's.
    User.objects.select_for_update(no_key=True).get(pk=user_id)
    if Report.objects.filter(user_id=user_id).count() >= QUOTA:
        raise TooManyReportsError
    report = Report.objects.create(user_id=user_id, last_day=timezone.localdate(), pages=days)
    task = owned(signature("reports.generate_pdf", args=(report.pk,)), owner=user_id)
    task.apply_async(task_id=str(report.task_id))
    return report


def report_generate(*, report_id: int) -> bool:
    """Make the report's file unless it is there; return whether this call did.

    A run that ends in the middle leaves nothing behind, so the next one starts over. The file has no name: it is gone
    when it is closed, and when this process is killed as well.
    """
    report = Report.objects.select_related("user").filter(pk=report_id, finished_at__isnull=True).first()
    if report is None:
        logger.warning("report_skipped", report_id=report_id, reason="it is ready, or gone")
        return False
    done, due = 0, time.monotonic()
    try:
        with TemporaryFile() as file:
            title = f"Account activity of {report.user.email}"
            for done in pdf.report_draw(file, title=title, days=_days(report), pages=report.pages):
                if time.monotonic() < due:
                    continue
                if not _note_progress(report_id, done):
                    logger.warning("report_skipped", report_id=report_id, reason="it was deleted, or made elsewhere")
                    return False
                due = time.monotonic() + PROGRESS
            file.seek(0)
            return _finish(report, file.read())
    except SoftTimeLimitExceeded:
        # Nothing to tidy up but to say how far it came: the task becomes a dead letter, and with it the report failed.
        logger.warning("report_took_too_long", report_id=report_id, pages_done=done, pages=report.pages)
        raise


def reports_delete_old(*, batch: int = 100, batches: int = 100) -> int:
    """Delete reports that were kept long enough, in batches; the rest is tomorrow's. Return how many."""
    deleted = 0
    for _ in range(batches):
        old = list(Report.objects.filter(requested_at__lt=timezone.now() - KEPT).values_list("pk", flat=True)[:batch])
        if not old:
            break
        Report.objects.filter(pk__in=old).delete()
        deleted += len(old)
    return deleted


def _days(report: Report) -> Iterator[tuple[date, list[Event]]]:
    """Read one day at a time, when its page is drawn."""
    for number in range(report.pages):
        day = report.first_day + timedelta(days=number)
        yield day, events_of_day(user=report.user, day=day)


def _note_progress(report_id: int, pages_done: int) -> bool:
    """Say how far the report is, in a transaction of its own; return whether it is still to be made."""
    return bool(Report.objects.filter(pk=report_id, finished_at__isnull=True).update(pages_done=pages_done))


@transaction.atomic
def _finish(report: Report, content: bytes) -> bool:
    """Make the file appear whole, with the word that it is there; of two runs that end at once, one does."""
    unfinished = Report.objects.filter(pk=report.pk, finished_at__isnull=True)
    if not unfinished.update(pages_done=report.pages, finished_at=timezone.now()):
        logger.warning("report_skipped", report_id=report.pk, reason="it was deleted, or made elsewhere")
        return False
    ReportFile.objects.create(report=report, content=content, sha256=hashlib.sha256(content).hexdigest())
    logger.info("report_finished", report_id=report.pk, pages=report.pages, size=len(content))
    return True
