"""What the project's tasks would lose or double by the options that each of them sets."""

from collections.abc import Iterator
from typing import Any

from celery import Celery

from drumline import conf
from drumline.preflight.celery_settings import visibility_timeout


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
            yield f"task {task.name}: max_retries is None, so it may retry for ever; set a number"
        if task.rate_limit and app.conf.worker_disable_rate_limits:
            yield (
                f"task {task.name}: rate_limit {task.rate_limit} has no effect, as worker_disable_rate_limits is True; "
                "set that to False"
            )


def task_notes(app: Celery) -> Iterator[str]:
    """Yield one line for each task that is not durable, which is a choice and no mistake."""
    for task in _own_tasks(app):
        if not getattr(task, "durable", conf.durable()):
            yield f"task {task.name} is not durable: sending fails while the broker is unreachable, and a crash can lose the task"


def _own_tasks(app: Celery) -> list[Any]:
    return [task for name, task in sorted(app.tasks.items()) if not name.startswith("celery.")]
