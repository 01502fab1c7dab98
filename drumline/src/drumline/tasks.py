"""Where Celery's autodiscovery finds the tasks of this application."""

from drumline.health.tasks import ping

__all__ = ["ping"]
