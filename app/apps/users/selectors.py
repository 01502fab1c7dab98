"""Reading users."""

from django.db.models import QuerySet

from apps.users.models import User


def user_find(*, user_id: int) -> User | None:
    """Return the user, or nothing when the account is gone."""
    return User.objects.filter(pk=user_id).first()


def digest_users() -> QuerySet[User]:
    """Return who gets the weekly digest."""
    return User.objects.filter(is_active=True, weekly_digest=True, email_verified_at__isnull=False)
