"""Sending as a project does it: a row of its own, and a task with it."""

import uuid
from functools import partial

from celery import current_app
from django.apps import apps
from django.db import connection, transaction


def send(name: str, args: list) -> str:
    """Write that the task was asked for, and send it; whoever reads the row expects the effect."""
    task_id = str(uuid.uuid4())
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO sent (task_id) VALUES (%s)", [task_id])
        publish = partial(current_app.tasks[name].apply_async, args=args, task_id=task_id)
        if apps.is_installed("drumline"):
            publish()
        else:
            # A worker must not look for the row before it is there; so delay_on_commit does.
            transaction.on_commit(publish)
    return task_id


def send_many(name: str, args: list, count: int) -> None:
    """Send in blocks, each one transaction and one producer."""
    task = current_app.tasks[name]
    for first in range(0, count, 500):
        ids = [str(uuid.uuid4()) for _ in range(min(500, count - first))]
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("INSERT INTO sent (task_id) SELECT unnest(%s::text[])", [ids])
            with current_app.producer_or_acquire() as producer:
                for task_id in ids:
                    task.apply_async(args=args, task_id=task_id, producer=producer)
