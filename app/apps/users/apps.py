"""Users: who can sign in."""

from django.apps import AppConfig


class UsersConfig(AppConfig):
    """Accounts that sign in by e-mail."""

    name = "apps.users"
