"""What the project's Celery settings would lose or leave open, said before anything is deployed."""

from collections.abc import Iterable, Iterator

from celery import Celery

# Formats that run code when they are read.
UNSAFE_CONTENT = {"pickle", "application/x-python-serialize"}


def settings_problems(app: Celery) -> Iterator[str]:
    """Yield one line for each setting that loses tasks or opens the system."""
    conf = app.conf
    if not conf.task_acks_late:
        yield "task_acks_late is off: a task is acknowledged before it runs, so a killed worker loses it; set it to True"
    if conf.task_always_eager:
        yield "task_always_eager is on: tasks run inside the request that sends them; set it to False"
    for name in ("accept_content", "result_accept_content"):
        unsafe = UNSAFE_CONTENT & set(conf[name] or ())
        if unsafe:
            yield f"{name} allows {', '.join(sorted(unsafe))}: whoever writes to the broker runs code; allow json only"
    for name in ("task_serializer", "result_serializer"):
        if conf[name] in UNSAFE_CONTENT:
            yield f"{name} is {conf[name]}: whoever writes to the broker runs code; set it to json"
    yield from _limit_problems(app)
    if conf.worker_prefetch_multiplier != 1:
        yield (
            f"worker_prefetch_multiplier is {conf.worker_prefetch_multiplier} (0 means no bound): a worker holds tasks "
            "that others could run; set it to 1"
        )
    if conf.task_create_missing_queues:
        yield "task_create_missing_queues is on: a misspelt queue is filled and never read; set it to False"
    if conf.broker_connection_max_retries is not None:
        yield (
            f"broker_connection_max_retries is {conf.broker_connection_max_retries}: after that many the worker exits; "
            "set it to None"
        )
    if conf.beat_scheduler == "celery.beat:PersistentScheduler":
        yield "beat_scheduler keeps its state in a file of one host; set it to drumline.beat.scheduler:Scheduler"
    if not conf.enable_utc:
        yield "enable_utc is off: due times depend on each host's clock settings; set it to True"


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
        if getattr(task, "queue", None):
            routed.setdefault(task.queue, []).append(f"task {task.name}")
    return routed


def serving_problems(app: Celery, served: Iterable[str]) -> Iterator[str]:
    """Yield one line for each queue that is sent to and not served, or served and not declared."""
    served = set(served)
    routed = routed_queues(app)
    for queue in sorted(routed.keys() - served):
        yield f"queue {queue} is not served, and {', '.join(routed[queue])} sends to it; serve it or change the route"
    for queue in sorted(served - set(app.amqp.queues)):
        yield f"queue {queue} is served but task_queues does not declare it: its worker would not start; declare it"
