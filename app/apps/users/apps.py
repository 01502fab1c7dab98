"""Users: who can sign in."""

from importlib import import_module

from django.apps import AppConfig


class UsersConfig(AppConfig):
    """Accounts that sign in by e-mail."""

    name = "apps.users"

    def ready(self) -> None:
        """Connect what logs sign-ins."""
        import_module("apps.users.lockout")
