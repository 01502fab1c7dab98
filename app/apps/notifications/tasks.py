"""Tasks of the notifications domain."""

from smtplib import SMTPException
from typing import Any

from celery import shared_task

from apps.notifications import services

BY_MAIL: dict[str, Any] = {
    # OSError: the mail server refuses or drops the connection.
    "autoretry_for": (SMTPException, OSError, services.DeliveryClaimedError),
    "max_retries": 10,
    "retry_backoff": 5,
    "retry_backoff_max": 600,
    "retry_jitter": True,
}


@shared_task(name="notifications.send_welcome_email", **BY_MAIL)
def send_welcome_email(user_id: int) -> bool:
    """Send the welcome e-mail once; return whether this run sent it."""
    return services.welcome_email_send(user_id=user_id)


@shared_task(name="notifications.send_verification_email", **BY_MAIL)
def send_verification_email(user_id: int, day: str) -> bool:
    """Send the e-mail that proves an address once a day; return whether this run sent it."""
    return services.verification_email_send(user_id=user_id, day=day)


@shared_task(name="notifications.send_reminder", **BY_MAIL)
def send_reminder(reminder_id: int) -> bool:
    """Send a reminder once; return whether this run sent it."""
    return services.reminder_send(reminder_id=reminder_id)


@shared_task(name="notifications.send_weekly_digest")
def send_weekly_digest(day: str | None = None) -> int:
    """Have the digest of a day's week sent to all who want it; return to how many. Today's when no day is given."""
    return services.weekly_digest_send(day=day)


@shared_task(name="notifications.send_weekly_digest_to_user", **BY_MAIL)
def send_weekly_digest_to_user(user_id: int, week: str) -> bool:
    """Send one user's digest of a week once; return whether this run sent it."""
    return services.user_digest_send(user_id=user_id, week=week)
