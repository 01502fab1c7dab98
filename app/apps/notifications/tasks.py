"""Tasks of the notifications domain."""

from smtplib import SMTPException

from celery import shared_task

from apps.notifications import services


@shared_task(
    name="notifications.send_welcome_email",
    # OSError: the mail server refuses or drops the connection.
    autoretry_for=(SMTPException, OSError, services.EmailClaimedError),
    max_retries=10,
    retry_backoff=5,
    retry_backoff_max=600,
    retry_jitter=True,
)
def send_welcome_email(user_id: int) -> bool:
    """Send the welcome e-mail once; return whether this run sent it."""
    return services.welcome_email_send(user_id=user_id)
