"""What would keep a backend's tasks from being written or run, said by `manage.py check`."""

from collections.abc import Iterator
from typing import Any

from celery import Celery
from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning  # noqa: A004  Django's name

from drumline.application import application, is_found
from drumline.preflight.routes import declared_queues


def messages(backend: Any) -> Iterator[CheckMessage]:
    """Yield what is wrong with the settings around this backend; nothing is connected to."""
    where = f"TASKS[{backend.alias!r}]"
    if backend.options:
        yield Error(
            f"{where} has OPTIONS, and LedgerBackend knows none: {', '.join(sorted(backend.options))}.",
            hint="Remove them.",
            id="drumline.E001",
        )
    if not apps.is_installed("drumline"):
        yield Error(
            f"{where} keeps its tasks in the ledger, and the ledger is not installed.",
            hint='Add "drumline" to INSTALLED_APPS, then type: python manage.py migrate',
            id="drumline.E002",
        )
        return
    if not settings.USE_TZ:
        yield Error(
            f"{where} needs moments that mean the same on each host, and USE_TZ is False.",
            hint="Set USE_TZ = True.",
            id="drumline.E003",
        )
    yield from _about_celery(application(), backend, where)


def _about_celery(app: Celery, backend: Any, where: str) -> Iterator[CheckMessage]:
    if not is_found():
        yield Error(
            f"{where} is run by Celery workers, and no Celery application is configured with the Django settings.",
            hint="Write celery.py and import its app in the package of your settings, as in Celery's \"First steps with "
            'Django".',
            id="drumline.E004",
        )
        return
    if app.conf.accept_content and not {"json", "application/json"} & set(app.conf.accept_content):
        yield Error(
            f"{where} sends JSON, which CELERY_ACCEPT_CONTENT does not list.",
            hint='Add "json" to it.',
            id="drumline.E005",
        )
    if app.conf.task_always_eager:
        yield Warning(
            f"CELERY_TASK_ALWAYS_EAGER runs the tasks of {where} within enqueue(), and their results cannot be asked for.",
            hint="For tests, set BACKEND to the framework's ImmediateBackend or DummyBackend.",
            id="drumline.W001",
        )
    for queue in sorted(backend.queues - declared_queues(app)):
        if app.conf.task_create_missing_queues:
            default = "" if app.conf.task_queues else f", or set CELERY_TASK_DEFAULT_QUEUE = {queue!r}"
            yield Warning(
                f"Queue {queue!r} of {where} is not one that a worker consumes by itself.",
                hint=f"Declare it in CELERY_TASK_QUEUES, start a worker with --queues {queue}{default}.",
                id="drumline.W002",
            )
        else:
            yield Error(
                f"Queue {queue!r} of {where} is not declared in CELERY_TASK_QUEUES: enqueue() would refuse its tasks.",
                hint="Declare it there, or take it out of QUEUES.",
                id="drumline.E006",
            )
