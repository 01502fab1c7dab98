"""django-tasks-db: the database backend that was in django-tasks until 0.12."""

from collections.abc import Iterable

import work
from django.db import transaction
from django_tasks import task

from adapters import MANAGE

NAME = "django-tasks-db"
PACKAGES = ["django-tasks-db", "django-tasks"]
KEEPS = "PostgreSQL"
BACK = "never: a task whose worker was killed stays RUNNING"
SAFE = "its defaults, there are no others; https://pypi.org/project/django-tasks-db/"
BESIDE: list[list[str]] = []


@task
def perform(body: str, value: float) -> None:
    work.perform(body, value)


def workers(queue: str, slots: int) -> list[list[str]]:
    return [[*MANAGE, "db_worker", "--queue-name", queue]] * slots


def enqueue(body: str, value: float, queue: str) -> None:
    perform.using(queue_name=queue).enqueue(body, value)


def enqueue_many(body: str, values: Iterable[float], queue: str) -> None:
    chosen = perform.using(queue_name=queue)
    with transaction.atomic():
        for value in values:
            chosen.enqueue(body, value)
