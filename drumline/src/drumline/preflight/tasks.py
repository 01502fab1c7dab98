"""What the project's tasks would lose or double by what each of them says of itself, and where they are sent."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from celery import Celery
from celery.schedules import maybe_schedule
from django_celery_beat.models import PeriodicTask

from drumline import conf
from drumline.beat.due import check_schedule
from drumline.ledger.selectors import queue_states
from drumline.preflight.celery_settings import visibility_timeout
from drumline.preflight.routes import declared_queues, routed_queues


def task_problems(app: Celery) -> Iterator[str]:
    """Yield one line for each option of a task that contradicts another setting."""
    visibility = visibility_timeout(app)
    for task in _own_tasks(app):
        soft = task.soft_time_limit or app.conf.task_soft_time_limit
        hard = task.time_limit or app.conf.task_time_limit
        if (task.soft_time_limit or task.time_limit) and soft and hard and soft >= hard:
            yield f"task {task.name}: soft_time_limit {soft} must be less than time_limit {hard}; set both on the task"
        if task.time_limit and visibility and task.time_limit >= visibility:
            yield (
                f"task {task.name}: time_limit {task.time_limit} must be less than visibility_timeout {visibility}, "
                "or it is delivered again while it runs; raise the latter in broker_transport_options"
            )
        if task.max_retries is None:
            yield f"task {task.name}: max_retries is None, so it may retry for ever; give it a number"
        if task.rate_limit and app.conf.worker_disable_rate_limits:
            yield (
                f"task {task.name}: rate_limit {task.rate_limit} has no effect, as worker_disable_rate_limits is True; "
                "set that to False"
            )


def task_notes(app: Celery) -> Iterator[str]:
    """Yield one line for each task that is not durable, which is a choice and no mistake."""
    for task in _own_tasks(app):
        if not getattr(task, "durable", conf.durable()):
            yield f"task {task.name} is not durable: what is sent while the broker is away fails, and a crash can lose it"


def _own_tasks(app: Celery) -> list[Any]:
    return [task for name, task in sorted(app.tasks.items()) if not name.startswith("celery.")]


def serving_problems(app: Celery, served: Iterable[str]) -> Iterator[str]:
    """Yield one line for each queue that is sent to and not served, or served and not declared."""
    served, declared, routed = set(served), declared_queues(app), routed_queues(app)
    yield from routed.problems
    for queue in sorted(routed.queues.keys() - served):
        senders = ", ".join(routed.queues[queue])
        yield f"queue {queue} is not served, and {senders} sends to it; serve it or change the route"
    if not app.conf.task_create_missing_queues:
        for queue in sorted(served - declared):
            yield f"queue {queue} is served but task_queues does not declare it: its worker would not start; declare it"


def schedule_problems(app: Celery) -> Iterator[str]:
    """Yield one line for each entry of the code's schedule that beat would leave out."""
    for name, entry in (app.conf.beat_schedule or {}).items():
        try:
            check_schedule(maybe_schedule(entry["schedule"] if isinstance(entry, Mapping) else entry.schedule))
        except Exception as error:  # noqa: BLE001  Celery has a class of its own for each kind of mistake
            yield f"beat_schedule {name} cannot be followed ({error}): beat leaves it out; correct its schedule"


def routing_notes(app: Celery) -> Iterator[str]:
    """Yield one line for each route that cannot be read as a whole."""
    yield from routed_queues(app).notes


def waiting_problems(served: Iterable[str]) -> Iterator[str]:
    """Yield one line for each queue in which tasks wait and that is not served; raise DatabaseError without a ledger."""
    served = set(served)
    for queue, state in queue_states().items():
        if state.open and queue not in served:
            yield (
                f"queue {queue} is not served, and {state.open} tasks wait in it; serve it, or send them through "
                f"another one: drumline-manage queues move {queue} QUEUE"
            )
    entries = PeriodicTask.objects.filter(enabled=True, queue__isnull=False).exclude(queue="")
    for name, queue in entries.exclude(queue__in=served).values_list("name", "queue"):
        yield f"queue {queue} is not served, and the periodic task {name!r} sends to it; change it in the admin"
