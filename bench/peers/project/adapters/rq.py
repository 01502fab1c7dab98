"""RQ on Redis. This file is also its worker: `python -m adapters.rq QUEUE`."""

import os
import sys
from collections.abc import Iterable

import django
import work
from redis import Redis
from rq import Queue, Retry, Worker

from adapters import PYTHON

django.setup()

NAME = "RQ"
PACKAGES = ["rq", "redis"]
KEEPS = "Redis"
BACK = "heartbeat 90 s (default), then its maintenance each minute (default: every ten)"
SAFE = (
    "Retry(max=3), or an abandoned job is only reported as failed; https://python-rq.org/docs/exceptions/. "
    "A worker of its own that imports before it forks; https://python-rq.org/docs/workers/#performance-notes"
)
BESIDE: list[list[str]] = []

redis = Redis.from_url(os.environ["REDIS_URL"])
queues = {name: Queue(name, connection=redis) for name in ("default", "high", "low")}


def workers(queue: str, slots: int) -> list[list[str]]:
    return [[PYTHON, "-m", "adapters.rq", queue]] * slots


def enqueue(body: str, value: float, queue: str) -> None:
    queues[queue].enqueue(work.perform, body, value, retry=Retry(max=3))


def enqueue_many(body: str, values: Iterable[float], queue: str) -> None:
    queues[queue].enqueue_many(
        [Queue.prepare_data(work.perform, (body, value), retry=Retry(max=3)) for value in values]
    )


if __name__ == "__main__":
    Worker([sys.argv[1]], connection=redis, maintenance_interval=60).work(logging_level="WARNING")
