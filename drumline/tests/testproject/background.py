"""Tasks of Django's framework, or of its backport."""

import sys
from asyncio import sleep

from celery import current_app

try:
    from django.tasks import task
except ImportError:
    from django_tasks import task


@task
def add(*numbers, start=0):
    return start + sum(numbers)


@task()
def nothing(*args, **kwargs):
    """Return nothing."""


@task
async def add_slowly(*numbers):
    await sleep(0)
    return sum(numbers)


@task
async def enqueue_another():
    return (await add.aenqueue(1, 2)).id


@task(takes_context=True)
def describe(context, *args):  # noqa: ARG001  they are in the context, too
    result = context.task_result
    return [
        context.attempt,
        result.id,
        result.status,
        result.args,
        [error.exception_class_path for error in result.errors],
    ]


@task
def fail(message="on purpose"):
    raise ValueError(message)


@task
def leave(code):
    sys.exit(code)


@task
def return_a_function():
    return lambda: None


@task
def echo(**kwargs):
    return kwargs


@task
def send_celerys_own():
    return current_app.tasks["testproject.work"].delay().id


def undecorated():
    """Be a task under another name."""


renamed = task(undecorated)
