"""Reading users."""

from apps.users.models import User


def user_find(*, user_id: int) -> User | None:
    """Return the user, or nothing when the account is gone."""
    return User.objects.filter(pk=user_id).first()
