"""Tasks that talk to other people's services."""

from typing import Any

from celery import shared_task

from apps.crm import services
from apps.crm.client import CrmBusyError, CrmUnavailableError


@shared_task(
    name="integrations.sync_to_crm",
    bind=True,
    autoretry_for=(CrmUnavailableError,),
    max_retries=5,
    retry_backoff=True,
    retry_backoff_max=600,
    retry_jitter=True,
)
def sync_to_crm(self: Any, user_id: int) -> bool:
    """Copy a user to the CRM; return whether that was done."""
    try:
        return services.contact_sync(user_id=user_id)
    except CrmBusyError as busy:
        # Without a time of its own it is like one that cannot be reached.
        if busy.seconds is None:
            raise CrmUnavailableError(str(busy)) from busy
        raise self.retry(exc=busy, countdown=busy.seconds) from busy
