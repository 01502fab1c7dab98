"""What the domains' HTTP interfaces share."""

from django.apps import AppConfig


class ApiConfig(AppConfig):
    """Problem documents, parsers and limits."""

    name = "apps.api"
