"""The first administrator of a project, by its own user model."""

from collections.abc import Iterator
from typing import Any

from django.contrib.auth import get_user_model
from django.core.exceptions import FieldDoesNotExist


def create(email: str, password: str) -> Iterator[str]:
    """Create the superuser unless there is one of this name; yield why it cannot be created."""
    users = get_user_model()
    login = users.USERNAME_FIELD
    if users._default_manager.filter(**{login: email}).exists():  # noqa: SLF001  Django documents it for user models
        print(f"{email} exists")
        return
    fields = {login: email, "password": password}
    if _has_email(users) and "email" in {*users.REQUIRED_FIELDS, login}:
        fields["email"] = email
    if missing := [name for name in users.REQUIRED_FIELDS if name not in fields]:
        yield (
            f"{users.__name__} also requires {', '.join(missing)}, which Drumline does not know. Leave app_admin_email empty, "
            "and create the administrator with: drumline-manage createsuperuser"
        )
        return
    users._default_manager.create_superuser(**fields)  # noqa: SLF001  as above
    print(f"{email} created")


def _has_email(users: Any) -> bool:
    try:
        users._meta.get_field("email")  # noqa: SLF001  as above
    except FieldDoesNotExist:
        return False
    return True
