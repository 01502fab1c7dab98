"""Keeping the CRM's copy of a user."""

from collections.abc import Iterable

import structlog
from celery import group, signature
from django.conf import settings
from django.utils import timezone

from apps.crm import client
from apps.crm.models import Contact
from apps.users.selectors import user_find

logger = structlog.get_logger(__name__)


def contacts_sync_request(*, user_ids: Iterable[int]) -> None:
    """Have the users copied once the caller's transaction is committed; without a CRM nothing happens."""
    if settings.CRM_URL:
        group(signature("integrations.sync_to_crm", args=(user_id,)) for user_id in user_ids).apply_async()


def contact_sync(*, user_id: int) -> bool:
    """Copy the user as it is now, and return whether that was done.

    Raises what `client.contact_put` raises; a refusal is recorded before. Twice is as good as once.
    """
    user = user_find(user_id=user_id)
    if user is None or not settings.CRM_URL:
        logger.warning("crm_sync_skipped", user_id=user_id, reason="there is no CRM" if user else "the user is gone")
        return False
    try:
        external_id = client.contact_put(key=str(user.pk), email=user.email, full_name=user.full_name)
    except client.CrmRefusedError as refusal:
        Contact.objects.update_or_create(user=user, defaults={"refusal": str(refusal)[:500]})
        raise
    fields = {"external_id": external_id[:100], "synced_at": timezone.now(), "refusal": ""}
    Contact.objects.update_or_create(user=user, defaults=fields)
    logger.info("crm_synced", user_id=user_id)
    return True
