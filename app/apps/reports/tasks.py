"""Tasks of the reports domain."""

from celery import shared_task
from django.db import InterfaceError, OperationalError

from apps.reports import services


@shared_task(
    name="reports.generate_pdf",
    # Seconds: asked to stop, and killed.
    soft_time_limit=120,
    time_limit=150,
    # The database was restarted in the middle.
    autoretry_for=(OperationalError, InterfaceError),
    max_retries=3,
    retry_backoff=5,
    retry_jitter=True,
)
def generate_pdf(report_id: int) -> bool:
    """Make a report's file; return whether this run did."""
    return services.report_generate(report_id=report_id)


@shared_task(name="reports.cleanup_old")
def cleanup_old() -> int:
    """Delete old reports; return how many there were."""
    return services.reports_delete_old()
