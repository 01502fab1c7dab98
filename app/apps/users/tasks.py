"""Tasks of the users domain."""

from celery import shared_task

from apps.users import services


@shared_task(name="users.cleanup_expired_sessions")
def cleanup_expired_sessions() -> int:
    """Delete expired sessions; return how many there were."""
    return services.sessions_delete_expired()


@shared_task(name="users.cleanup_unverified")
def cleanup_unverified() -> int:
    """Delete the accounts whose address was not proved in time; return how many there were."""
    return services.unverified_users_delete()


@shared_task(name="users.cleanup_sign_ins")
def cleanup_sign_ins() -> int:
    """Delete old records of sign-ins; return how many there were."""
    return services.sign_ins_delete_old()
