"""Celery on Redis with the settings of production checklists: the reference of bench/throughput.py without Drumline."""

from collections.abc import Iterable

import work
from celery import Celery, group

from adapters import BIN

NAME = "Celery, production checklist"
PACKAGES = ["celery", "kombu"]
KEEPS = "Redis"
BACK = "visibility timeout 60 s (default 3600 s); a longer task starts again while it runs"
SAFE = (
    "acks_late, prefetch 1, results in the database, a database connection for each task; "
    "https://docs.celeryq.dev/en/stable/userguide/optimizing.html#reserve-one-task-at-a-time, "
    "https://docs.celeryq.dev/en/stable/getting-started/backends-and-brokers/redis.html#visibility-timeout"
)
BESIDE: list[list[str]] = []

app = Celery("peers")
app.config_from_object("django.conf:settings", namespace="CELERY")
perform = app.task(name="perform")(work.perform)


def workers(queue: str, slots: int) -> list[list[str]]:
    # Its main process is the limit: two workers of one child run more than one worker of two children.
    options = ["--queues", queue, "--concurrency", "1", "--loglevel", "WARNING", "--without-gossip", "--without-mingle"]
    return [
        [str(BIN / "celery"), "--app", "adapters.celery", "worker", "--hostname", f"{queue}-{slot}@%h", *options]
        for slot in range(slots)
    ]


def enqueue(body: str, value: float, queue: str) -> None:
    perform.apply_async((body, value), queue=queue)


def enqueue_many(body: str, values: Iterable[float], queue: str) -> None:
    group(perform.si(body, value).set(queue=queue) for value in values).apply_async()
