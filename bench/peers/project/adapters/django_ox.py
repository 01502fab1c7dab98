"""django-ox: Django's tasks on PostgreSQL."""

from collections.abc import Iterable

import work
from django_ox.bulk import enqueue_many as bulk
from django_tasks import task

from adapters import MANAGE

NAME = "django-ox"
PACKAGES = ["django-ox", "django-tasks"]
KEEPS = "PostgreSQL"
BACK = "LOCK_TIMEOUT 60 s (default 300 s), renewed while a task runs"
SAFE = "its defaults; https://oxpull.com/django-ox/production/#the-reaper"
BESIDE: list[list[str]] = []


@task
def perform(body: str, value: float) -> None:
    work.perform(body, value)


def workers(queue: str, slots: int) -> list[list[str]]:
    # https://oxpull.com/django-ox/production/#threads-and-processes
    return [[*MANAGE, "ox_worker", "--queues", queue, "--processes", str(slots)]]


def enqueue(body: str, value: float, queue: str) -> None:
    perform.using(queue_name=queue).enqueue(body, value)


def enqueue_many(body: str, values: Iterable[float], queue: str) -> None:
    bulk(perform.using(queue_name=queue), (((body, value), {}) for value in values))
