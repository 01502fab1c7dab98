"""Drumline: the same Celery with the ledger; sending, workers and relay as its README says."""

from collections.abc import Iterable

from adapters import MANAGE
from adapters.celery import enqueue, perform, workers
from drumline import send_many

__all__ = ["BACK", "BESIDE", "KEEPS", "NAME", "PACKAGES", "SAFE", "enqueue", "enqueue_many", "workers"]

NAME = "Drumline"
PACKAGES = ["drumline", "celery", "kombu"]
KEEPS = "PostgreSQL"
BACK = "DRUMLINE_LEASE 15 s (default)"
SAFE = "its defaults; results ignored, CELERY_DB_REUSE_MAX=100, prefetch 1; drumline/README.md"
BESIDE = [[*MANAGE, "relay"]]


def enqueue_many(body: str, values: Iterable[float], queue: str) -> None:
    send_many(perform, ((body, value) for value in values), queue=queue)
