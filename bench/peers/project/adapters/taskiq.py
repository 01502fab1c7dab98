"""Taskiq on a Redis stream."""

import asyncio
import os
from collections.abc import Iterable

import django
import work
from taskiq_redis import RedisStreamBroker

from adapters import BIN

django.setup()

NAME = "Taskiq"
PACKAGES = ["taskiq", "taskiq-redis", "redis"]
KEEPS = "Redis"
BACK = "idle_timeout 60 s (default 600 s), when another task comes; a longer task starts again while it runs"
SAFE = (
    "the stream broker, which has acknowledgements, and an autoclaim lock that expires; "
    "https://github.com/taskiq-python/taskiq-redis#stream, and unacknowledged_lock_timeout in its source"
)
BESIDE: list[list[str]] = []

default, high, low = (
    RedisStreamBroker(os.environ["REDIS_URL"], queue_name=name, idle_timeout=60_000, unacknowledged_lock_timeout=60)
    for name in ("default", "high", "low")
)
performs = {broker.queue_name: broker.task(task_name="perform")(work.perform) for broker in (default, high, low)}
loop = asyncio.new_event_loop()
started = set()


def workers(queue: str, slots: int) -> list[list[str]]:
    one_each = ["--workers", str(slots), "--max-async-tasks", "1", "--max-threadpool-threads", "1"]
    return [[str(BIN / "taskiq"), "worker", f"adapters.taskiq:{queue}", *one_each, "--log-level", "WARNING"]]


def enqueue(body: str, value: float, queue: str) -> None:
    start(queue)
    loop.run_until_complete(performs[queue].kiq(body, value))


def enqueue_many(body: str, values: Iterable[float], queue: str) -> None:
    start(queue)
    waiting = list(values)
    for first in range(0, len(waiting), 100):
        loop.run_until_complete(send(body, waiting[first : first + 100], queue))


async def send(body: str, values: Iterable[float], queue: str) -> None:
    await asyncio.gather(*(performs[queue].kiq(body, value) for value in values))


def start(queue: str) -> None:
    """Make the consumer group, as its documentation asks of whoever sends."""
    if queue not in started:
        loop.run_until_complete({"default": default, "high": high, "low": low}[queue].startup())
        started.add(queue)
