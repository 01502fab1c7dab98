"""Drumline as a Django application: add it to INSTALLED_APPS."""

from importlib import import_module

from django.apps import AppConfig, apps


class DrumlineConfig(AppConfig):
    """The reusable part; it imports no domain."""

    name = "drumline"
    verbose_name = "Drumline"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Route what Celery sends and runs through the ledger, and connect the worker's life cycle."""
        import_module("drumline.worker.signals")
        import_module("drumline.celery_hooks.producer").install()
        import_module("drumline.celery_hooks.tracer").install()
        if apps.is_installed("django_celery_results"):
            import_module("drumline.celery_hooks.chords").install()
