"""Tasks of the users domain."""

from celery import shared_task

from apps.users import services


@shared_task(name="users.cleanup_expired_sessions")
def cleanup_expired_sessions() -> int:
    """Delete expired sessions; return how many there were."""
    return services.sessions_delete_expired()
