"""Drumline's own settings. Each has a default; a project overrides it in its Django settings."""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, TypeVar, get_type_hints

from django.conf import settings

PREFIX = "DRUMLINE_"
# The type of each setting, as the function that reads it returns it.
TYPES: dict[str, Any] = {}

T = TypeVar("T")


def _setting(read: Callable[[], T]) -> Callable[[], T]:
    """Record the setting that a function reads and is named after; the function itself is not wrapped."""
    TYPES[PREFIX + read.__name__.upper()] = get_type_hints(read)["return"]
    return read


@_setting
def lease() -> float:
    """Return the seconds without a heartbeat after which a worker counts as dead and its tasks run elsewhere."""
    return float(getattr(settings, "DRUMLINE_LEASE", 15))


@_setting
def durable() -> bool:
    """Return whether a task is durable if it does not set `durable=` itself."""
    return bool(getattr(settings, "DRUMLINE_DURABLE", True))


@_setting
def max_attempts() -> int:
    """Return how often a task that kills its process is started, unless it sets `max_attempts=` itself."""
    return int(getattr(settings, "DRUMLINE_MAX_ATTEMPTS", 3))


@_setting
def keep_finished() -> float:
    """Return the seconds for which a finished or discarded task is kept. Dead letters are kept until someone decides."""
    return float(getattr(settings, "DRUMLINE_KEEP_FINISHED", 86400))


@_setting
def publish_timeout() -> float:
    """Return the seconds that a send waits for the broker before it leaves publishing to the relay."""
    return float(getattr(settings, "DRUMLINE_PUBLISH_TIMEOUT", 1))


@_setting
def pgbouncer() -> bool | None:
    """Return whether PgBouncer pools transactions in front of PostgreSQL. None detects it."""
    said = getattr(settings, "DRUMLINE_PGBOUNCER", None)
    return None if said is None else bool(said)


def has_django_tasks() -> bool:
    """Return whether the project sets up `django.tasks`, or its backport."""
    return bool(getattr(settings, "TASKS", None) and (find_spec("django.tasks") or find_spec("django_tasks")))


@_setting
def celery_app() -> str:
    """Return the import path of the Celery application whose tasks are durable. Empty finds it."""
    return str(getattr(settings, "DRUMLINE_CELERY_APP", ""))


@_setting
def max_publish_lag() -> float:
    """Return the seconds a due task may wait, while no relay publishes, before `/readyz` and `ledger status` fail."""
    return float(getattr(settings, "DRUMLINE_MAX_PUBLISH_LAG", 60))
