"""Assembly: the Celery application and its tasks are there in every process that runs Django."""

from importlib import import_module

from django.apps import AppConfig
from django.conf import settings
from django.contrib.admin.apps import AdminConfig
from django.utils.module_loading import autodiscover_modules


class StaffAdminConfig(AdminConfig):
    """Django's administration, which asks for a second factor."""

    default_site = "apps.users.second_factor.StaffSite"


class ProjectConfig(AppConfig):
    """The last application, so that every model is loaded before the tasks are."""

    name = "config"

    def ready(self) -> None:
        """Make the project's Celery application the current one, with every task registered."""
        import_module("config.celery")
        autodiscover_modules("tasks")
        # Every process of the fleet comes through here: web, worker, relay and beat.
        if settings.SENTRY_DSN:
            import_module("config.sentry").start()
