"""A Celery application for a project that has none, since its tasks are Django's own (`app_celery` is empty).

Importing this module changes nothing; asking it for `app` does.
"""

from functools import cache
from typing import TYPE_CHECKING, Any

from celery import Celery

if TYPE_CHECKING:
    app: Celery

# Django's name for the queue of a task that names none.
DEFAULT_QUEUE = "default"


@cache
def _application() -> Celery:
    made = Celery("project")
    made.config_from_object("django.conf:settings", namespace="CELERY")
    made.add_defaults(lambda: {"task_default_queue": DEFAULT_QUEUE})
    made.autodiscover_tasks()
    return made


def __getattr__(name: str) -> Any:
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _application()
