"""Drumline's own settings: all have a default, and a project overrides one by its name in its Django settings."""

from django.conf import settings


def lease() -> float:
    """Return for how many seconds a silent worker is believed alive."""
    return float(getattr(settings, "DRUMLINE_LEASE", 15))


def durable() -> bool:
    """Return whether a task that does not say `durable=` itself is kept in the ledger."""
    return bool(getattr(settings, "DRUMLINE_DURABLE", True))


def max_attempts() -> int:
    """Return how many times a task that kills its worker is started, unless the task says `max_attempts=`."""
    return int(getattr(settings, "DRUMLINE_MAX_ATTEMPTS", 3))


def keep_finished() -> float:
    """Return for how many seconds the row of a finished or discarded task is kept; dead letters stay."""
    return float(getattr(settings, "DRUMLINE_KEEP_FINISHED", 24 * 3600))


def publish_timeout() -> float:
    """Return how many seconds the sender of a task waits for the broker before it leaves the task to the relay."""
    return float(getattr(settings, "DRUMLINE_PUBLISH_TIMEOUT", 1))


def pgbouncer() -> bool | None:
    """Return whether a pooler shares the database's sessions between transactions; None asks the database."""
    said = getattr(settings, "DRUMLINE_PGBOUNCER", None)
    return None if said is None else bool(said)


def celery_app() -> str:
    """Return the import path of the Celery application whose tasks the ledger keeps; empty to find it."""
    return str(getattr(settings, "DRUMLINE_CELERY_APP", ""))


def max_publish_lag() -> float:
    """Return for how many seconds a due task may wait to be published before `/readyz` and `ledger status` fail."""
    return float(getattr(settings, "DRUMLINE_MAX_PUBLISH_LAG", 60))
