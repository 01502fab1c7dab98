"""From `enqueue()` to the row."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any
from uuid import uuid4

from celery import Celery
from celery.exceptions import QueueNotFound
from django.core.exceptions import SynchronousOnlyOperation

from drumline.application import application
from drumline.tasks_backend.call import Call, named_task
from drumline.tasks_backend.carrier import run_task
from drumline.tasks_backend.framework import InvalidTask, TaskResultStatus, task_enqueued
from drumline.tasks_backend.results import new_result

# The least of the two steps below 0.
LOW = -50


def enqueue(backend: Any, task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """See `LedgerBackend.enqueue`."""
    path = task.module_path
    _refuse_unreachable(task)
    call = Call.of(task, backend.alias)
    result = new_result((task, call, str(uuid4())), (args, kwargs), TaskResultStatus.READY)
    app = application()
    # Its options are more than Celery's types know.
    carrier: Any = app.tasks[run_task.name]
    try:
        carrier.apply_async(
            result.args,
            result.kwargs,
            task_id=result.id,
            shadow=path,
            headers=call.as_header(),
            queue=task.queue_name,
            eta=task.run_after,
            priority=broker_priority(app, task.priority),
            durable=True,
        )
    except QueueNotFound as error:
        raise InvalidTask(
            f"Queue {task.queue_name!r} of {path} is not declared in CELERY_TASK_QUEUES, so no worker consumes it; "
            "declare it, or enqueue the task with using(queue_name=…)"
        ) from error
    except SynchronousOnlyOperation as error:
        raise SynchronousOnlyOperation(
            f"{path} was enqueued from async code, where Django's database cannot be used. "
            f"Use: await {task.name}.aenqueue(…)"
        ) from error
    task_enqueued.send(type(backend), task_result=result)
    return result


def _refuse_unreachable(task: Any) -> None:
    """Raise InvalidTask for a task that a worker would not find by its path."""
    path = task.module_path
    if path.startswith("__main__."):
        return
    try:
        found = named_task(path)
    except ImportError as error:
        raise InvalidTask(
            f"{path} cannot be imported ({error}), so no worker could run it; give the task the name of its function, "
            "at the top of a module"
        ) from error
    if found.func is not task.func:
        raise InvalidTask(f"{path} is another task than the one that is enqueued; give each task a name of its own")


def broker_priority(app: Celery, priority: int) -> int:
    """Return the broker's number for one of Django's priorities: 1 to 100, 0, -1 to -50 and -51 to -100 differ.

    On Redis a lower number is delivered first; on RabbitMQ a higher one, and quorum queues tell above 4 from the rest. 0
    is the project's `CELERY_TASK_DEFAULT_PRIORITY`, where there is one.
    """
    default, low = app.conf.task_default_priority, priority >= LOW
    if _higher_is_first(app):
        default = 4 if default is None else default
        return 9 if priority > 0 else default if priority == 0 else min(default, 2 if low else 0)
    default = 3 if default is None else default
    return 0 if priority > 0 else default if priority == 0 else max(default, 6 if low else 9)


@cache
def _higher_is_first(app: Celery) -> bool:
    return bool(app.connection_for_write().get_transport_cls().driver_type == "amqp")
