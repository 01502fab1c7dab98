"""Drumline as a Django application: add it to INSTALLED_APPS."""

from importlib import import_module

from django.apps import AppConfig


class DrumlineConfig(AppConfig):
    """The reusable part; it imports no domain."""

    name = "drumline"
    verbose_name = "Drumline"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Install what Drumline changes in Celery; nothing else changes anything by being imported."""
        import_module("drumline.celery_hooks").install()
