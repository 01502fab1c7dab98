"""What the project's Celery settings would lose or leave open, said before anything is deployed."""

import operator
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from celery import Celery

# Formats that run code when they are read.
UNSAFE_CONTENT = {"pickle", "application/x-python-serialize"}

# Setting, when it is wrong, why, and what to set instead.
WRONG: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    ("task_acks_late", operator.not_, "a killed worker loses what it acknowledged early; set it to True"),
    ("task_always_eager", bool, "tasks run inside the request that sends them; set it to False"),
    ("worker_prefetch_multiplier", lambda value: value != 1, "a worker holds tasks others could run; set it to 1"),
    ("task_create_missing_queues", bool, "a misspelt queue is filled and never read; set it to False"),
    ("broker_connection_max_retries", bool, "after that many attempts the worker exits; set it to None"),
    ("enable_utc", operator.not_, "due times depend on each host's own time zone; set it to True"),
    (
        "beat_scheduler",
        "celery.beat:PersistentScheduler".__eq__,
        "its state is a file of one host; set it to drumline.beat.scheduler:Scheduler",
    ),
)


def settings_problems(app: Celery) -> Iterator[str]:
    """Yield one line for each setting that loses tasks or opens the system."""
    yield from _content_problems(app)
    yield from _limit_problems(app)
    for setting, is_wrong, why in WRONG:
        value = app.conf[setting]
        if is_wrong(value):
            yield f"{setting} is {value!r}: {why}"
    if (app.conf.broker_transport_options or {}).get("retry_on_timeout"):
        yield (
            "broker_transport_options has retry_on_timeout: a worker whose broker restarts may wait for ever in a read "
            "that cannot end; remove it"
        )


def _content_problems(app: Celery) -> Iterator[str]:
    for setting in ("accept_content", "result_accept_content", "task_serializer", "result_serializer"):
        value = app.conf[setting] or ()
        unsafe = UNSAFE_CONTENT & ({value} if isinstance(value, str) else set(value))
        if unsafe:
            names = ", ".join(sorted(unsafe))
            yield f"{setting} allows {names}: whoever writes to the broker runs code here; allow json only"


def _limit_problems(app: Celery) -> Iterator[str]:
    conf = app.conf
    soft, hard = conf.task_soft_time_limit, conf.task_time_limit
    if not hard:
        yield "task_time_limit is not set: a task that hangs holds its process for ever; set it, in seconds"
    if not soft:
        yield "task_soft_time_limit is not set: a task cannot clean up before it is killed; set it below task_time_limit"
    if soft and hard and soft >= hard:
        yield f"task_soft_time_limit {soft} must be less than task_time_limit {hard}"
    visibility = (conf.broker_transport_options or {}).get("visibility_timeout", 3600)
    if hard and str(conf.broker_url).startswith(("redis", "sentinel")) and visibility <= hard:
        yield (
            f"visibility_timeout {visibility} must exceed task_time_limit {hard}: a long task would run twice at once; "
            "raise CELERY_VISIBILITY_TIMEOUT"
        )


def routed_queues(app: Celery) -> dict[str, list[str]]:
    """Return every queue that something is sent to, with what is sent there."""
    routed: dict[str, list[str]] = {app.conf.task_default_queue: ["the default queue"]}
    for pattern, route in (app.conf.task_routes or {}).items():
        routed.setdefault(route["queue"], []).append(f"route {pattern}")
    for name, entry in app.conf.beat_schedule.items():
        queue = (entry.get("options") or {}).get("queue")
        if queue:
            routed.setdefault(queue, []).append(f"schedule {name}")
    for task in app.tasks.values():
        queue = getattr(task, "queue", None)
        if queue:
            routed.setdefault(queue, []).append(f"task {task.name}")
    return routed


def serving_problems(app: Celery, served: Iterable[str]) -> Iterator[str]:
    """Yield one line for each queue that is sent to and not served, or served and not declared."""
    served = set(served)
    routed = routed_queues(app)
    for queue in sorted(routed.keys() - served):
        yield f"queue {queue} is not served, and {', '.join(routed[queue])} sends to it; serve it or change the route"
    for queue in sorted(served - set(app.amqp.queues)):
        yield f"queue {queue} is served but task_queues does not declare it: its worker would not start; declare it"
