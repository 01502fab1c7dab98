"""Sending notifications."""

from datetime import timedelta

import structlog
from celery import signature
from django.core.mail import send_mail
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from apps.notifications.models import Email
from apps.users.selectors import user_find

logger = structlog.get_logger(__name__)

# Longer than a conversation with a slow mail server takes; after it the sender is believed dead.
CLAIM = timedelta(minutes=2)


class EmailClaimedError(Exception):
    """Another worker is sending this e-mail now; whether it succeeds is not known yet."""


def welcome_email_request(*, user_id: int) -> None:
    """Have the welcome e-mail sent once the caller's transaction is committed.

    By name, because the task's module imports this one. `robust`: the account exists by then, so a broker that is
    down is logged and must not turn the answer into an error.
    """
    Email.objects.create(user_id=user_id, kind=Email.Kind.WELCOME)
    task = signature("notifications.send_welcome_email", args=(user_id,))
    transaction.on_commit(task.apply_async, robust=True)


def welcome_email_send(*, user_id: int) -> bool:
    """Send the welcome e-mail unless it was sent; return whether this call did.

    A worker that dies between the mail server's answer and the next line sends it again after the claim has
    expired: twice is possible in that instant, never is not.
    """
    user = user_find(user_id=user_id)
    if user is None:
        logger.warning("welcome_email_skipped", user_id=user_id, reason="the user is gone")
        return False
    email, _ = Email.objects.get_or_create(user=user, kind=Email.Kind.WELCOME)
    if not _claim(email):
        if Email.objects.filter(pk=email.pk, sent_at__isnull=True).exists():
            raise EmailClaimedError
        logger.info("welcome_email_skipped", user_id=user_id, reason="it was sent before")
        return False
    try:
        send_mail(
            subject="Welcome",
            message=f"Hello {user.full_name or user.email},\n\nyour account is ready.\n",
            from_email=None,
            recipient_list=[user.email],
        )
    except Exception:
        # Give it back, so that the retry need not wait for the claim to expire.
        Email.objects.filter(pk=email.pk).update(claimed_at=None)
        raise
    Email.objects.filter(pk=email.pk).update(sent_at=timezone.now())
    logger.info("welcome_email_sent", user_id=user_id)
    return True


def _claim(email: Email) -> bool:
    """Take the e-mail in one conditional UPDATE, which exactly one of several workers wins."""
    now = timezone.now()
    free = Q(claimed_at__isnull=True) | Q(claimed_at__lt=now - CLAIM)
    return bool(Email.objects.filter(free, pk=email.pk, sent_at__isnull=True).update(claimed_at=now))
