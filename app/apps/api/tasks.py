"""Tasks of the API."""

from celery import shared_task

from apps.api import services


@shared_task(name="api.cleanup_request_counts")
def cleanup_request_counts() -> int:
    """Delete the request counts whose window has ended; return how many there were."""
    return services.request_counts_delete_ended()
