"""What the ledger needs of a project that was not written for it."""

from importlib import import_module

from django.apps import AppConfig

from drumline.application import application
from drumline.hosting.celery_settings import make_safe


class HostingConfig(AppConfig):
    """The last application, so that every model is loaded before the Celery application is asked for."""

    name = "drumline.hosting"
    label = "drumline_hosting"

    def ready(self) -> None:
        """Set what the project's Celery settings leave unsafe, and have the test task where it discovers its own."""
        make_safe(application())
        import_module("drumline.tasks")
