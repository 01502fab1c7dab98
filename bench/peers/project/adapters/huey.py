"""Huey on Redis."""

import os
from collections.abc import Iterable

import django
import work
from huey import RedisHuey

from adapters import BIN

django.setup()

NAME = "Huey"
PACKAGES = ["huey", "redis"]
KEEPS = "Redis"
BACK = "never: it acknowledges nothing"
SAFE = "none for a killed worker; https://huey.readthedocs.io/en/latest/consumer.html#consumer-shutdown"
BESIDE: list[list[str]] = []

default, high, low = (RedisHuey(name, url=os.environ["REDIS_URL"]) for name in ("default", "high", "low"))
performs = {huey.name: huey.task(name="perform")(work.perform) for huey in (default, high, low)}


def workers(queue: str, slots: int) -> list[list[str]]:
    # https://huey.readthedocs.io/en/latest/consumer.html#worker-types
    return [[str(BIN / "huey_consumer"), f"adapters.huey.{queue}", "-k", "process", "-w", str(slots), "--quiet"]]


def enqueue(body: str, value: float, queue: str) -> None:
    performs[queue](body, value)


def enqueue_many(body: str, values: Iterable[float], queue: str) -> None:
    for value in values:
        performs[queue](body, value)
