"""Dramatiq on Redis."""

import os
from collections.abc import Iterable

import django
import dramatiq
import work
from dramatiq.brokers.redis import RedisBroker

from adapters import BIN

django.setup()

NAME = "Dramatiq"
PACKAGES = ["dramatiq", "redis"]
KEEPS = "Redis"
BACK = "heartbeat 60 s (default), looked at by one command in a hundred (default: in a thousand)"
SAFE = "its defaults: acknowledged after the run; https://dramatiq.io/advanced.html#message-persistence"
BESIDE: list[list[str]] = []

broker = RedisBroker(url=os.environ["REDIS_URL"], maintenance_chance=10_000)
dramatiq.set_broker(broker)
performs = {
    queue: dramatiq.actor(work.perform, actor_name=f"perform-{queue}", queue_name=queue)
    for queue in ("default", "high", "low")
}


def workers(queue: str, slots: int) -> list[list[str]]:
    one_each = ["--processes", str(slots), "--threads", "1"]
    return [[str(BIN / "dramatiq"), "adapters.dramatiq:broker", *one_each, "--queues", queue]]


def enqueue(body: str, value: float, queue: str) -> None:
    performs[queue].send(body, value)


def enqueue_many(body: str, values: Iterable[float], queue: str) -> None:
    for value in values:
        performs[queue].send(body, value)
