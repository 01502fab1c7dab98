"""Drumline as a Django application: add it to INSTALLED_APPS."""

from importlib import import_module

from celery import _state
from django.apps import AppConfig


class DrumlineConfig(AppConfig):
    """The reusable part; it imports no domain."""

    name = "drumline"
    verbose_name = "Drumline"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Route every Celery application's tasks through the ledger, and connect the worker's life cycle."""
        import_module("drumline.worker.lifecycle")
        enqueue = import_module("drumline.ledger.enqueue")
        # An application made later is announced when it is finalized; the callback for those is Celery's own.
        for app in _state._get_active_apps():  # type: ignore[attr-defined]  # noqa: SLF001  no public list
            enqueue.install(app)
        _state.connect_on_app_finalize(enqueue.install)
