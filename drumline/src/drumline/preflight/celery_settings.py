"""What the project's Celery settings would lose, double or leave open."""

import difflib
import operator
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

from celery import Celery
from celery.app.defaults import SETTING_KEYS
from django.apps import apps
from django.conf import settings

from drumline.broker.connections import transport_options

# What beat is to run.
SCHEDULER = "drumline.beat.scheduler:Scheduler"

# Formats that run code when they are read.
UNSAFE_CONTENT = {"pickle", "application/x-python-serialize"}

# Options of kombu's Redis transport that change the names of its keys.
NAMING = {"fanout_patterns", "fanout_prefix", "global_keyprefix", "sep"}

# Read by others under Celery's prefix.
EXTENSIONS = {"CELERY_DB_REUSE_MAX"}

# Setting, when it is wrong, why, and what to set instead.
WRONG: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    ("task_acks_late", operator.not_, "a killed worker loses tasks that it acknowledged early; set it to True"),
    ("task_always_eager", bool, "tasks run inside the request that sends them; set it to False"),
    (
        "worker_prefetch_multiplier",
        lambda value: value != 1,
        "a worker reserves tasks that others could run; set it to 1",
    ),
    ("task_create_missing_queues", bool, "tasks for a misspelt queue are never consumed; set it to False"),
    ("broker_connection_max_retries", bool, "the worker exits after that many attempts; set it to None"),
    ("broker_connection_retry", operator.not_, "a worker exits when its broker restarts; set it to True"),
    (
        "task_acks_on_failure_or_timeout",
        operator.not_,
        "a failed task is never acknowledged and runs again and again; set it to True",
    ),
    (
        "task_reject_on_worker_lost",
        bool,
        "a task that kills its process is redelivered without limit; set it to False, and the ledger limits the attempts",
    ),
    (
        "worker_cancel_long_running_tasks_on_connection_loss",
        bool,
        "every lost broker connection kills the running tasks, which then run again; set it to False",
    ),
    ("result_expires", operator.not_, "results are kept for ever; set it, in seconds"),
    (
        "task_protocol",
        (2).__ne__,
        "its messages have no headers, so no task is durable; set it to 2",
    ),
    ("enable_utc", operator.not_, "due times depend on the time zone of each host; set it to True"),
)


def settings_problems(app: Celery) -> Iterator[str]:
    """Yield one line for each setting that loses tasks or opens the system."""
    yield from _content_problems(app)
    yield from _limit_problems(app)
    for setting, is_wrong, why in WRONG:
        value = app.conf[setting]
        if is_wrong(value):
            yield f"{setting} is {value!r}: {why}"
    yield from _scheduler_problems(app)
    yield from _broker_problems(app)
    yield from _misspelt(app)


def settings_notes(app: Celery) -> Iterator[str]:
    """Yield one line for each choice that leaves a promise to something else."""
    if app.conf.result_backend and not str(app.conf.result_backend).startswith("django-db"):
        yield (
            "result_backend is not django-db: the body of a chord can be lost or start too early when a process dies; "
            "everything else is not affected"
        )
    if named := sorted(NAMING & transport_options(app).keys()):
        yield (
            f"broker_transport_options has {', '.join(named)}: Flower, which does not read it, uses kombu's names of the broker's "
            "keys, so it sees nothing of the workers, and its entries may keep them from answering; remove it, or run no Flower"
        )


def _scheduler_problems(app: Celery) -> Iterator[str]:
    scheduler, installed = app.conf.beat_scheduler, apps.is_installed("drumline.beat")
    add = 'add "django_celery_beat" and "drumline.beat" to INSTALLED_APPS'
    ours = f"set it to {SCHEDULER}" if installed else f"pip install 'drumline[beat]', {add}, and set it to {SCHEDULER}"
    if scheduler == SCHEDULER and not installed:
        yield f"beat_scheduler is {scheduler!r}, whose tables are missing: beat does not start; {add} and migrate"
    elif scheduler == "celery.beat:PersistentScheduler" and (installed or app.conf.beat_schedule):
        yield f"beat_scheduler is {scheduler!r}: its state is a file on one host; {ours}"
    elif scheduler in {"django", "django_celery_beat.schedulers:DatabaseScheduler"}:
        yield f"beat_scheduler is {scheduler!r}: two beats send each run twice; {ours}, which keeps the same entries"


def _content_problems(app: Celery) -> Iterator[str]:
    for setting in ("accept_content", "result_accept_content", "task_serializer", "result_serializer"):
        value = app.conf[setting] or ()
        unsafe = UNSAFE_CONTENT & ({value} if isinstance(value, str) else set(value))
        if unsafe:
            names = ", ".join(sorted(unsafe))
            yield f"{setting} allows {names}, so anyone who can write to the broker can run code here; allow json only"


def _limit_problems(app: Celery) -> Iterator[str]:
    conf = app.conf
    soft, hard = conf.task_soft_time_limit, conf.task_time_limit
    if not hard:
        yield "task_time_limit is not set, so a hanging task blocks its process for ever; set it, in seconds"
    if not soft:
        yield "task_soft_time_limit is not set, so a task cannot clean up before it is killed; set it below task_time_limit"
    if soft and hard and soft >= hard:
        yield f"task_soft_time_limit {soft} must be less than task_time_limit {hard}"
    visibility = visibility_timeout(app)
    if hard and visibility and visibility <= hard:
        yield (
            f"visibility_timeout {visibility} must exceed task_time_limit {hard}, or a long task is delivered again "
            "while it runs; raise it in broker_transport_options"
        )


def visibility_timeout(app: Celery) -> int | None:
    """Return after how many seconds Redis delivers an unacknowledged message again; None for other brokers."""
    if not any(url.startswith(("redis", "sentinel")) for url in broker_urls(app)):
        return None
    return int(transport_options(app).get("visibility_timeout") or 3600)


def broker_urls(app: Celery) -> list[str]:
    """Return the URLs that tasks are sent to and read from; of a chain of alternatives in one URL, the first."""
    conf: Any = app.conf
    urls: list[Any] = []
    for setting in (conf.broker_url, conf.broker_read_url, conf.broker_write_url):
        urls += setting if isinstance(setting, (list, tuple)) else [setting]
    return list(dict.fromkeys(str(url).split(";")[0] for url in urls if url))


def _broker_problems(app: Celery) -> Iterator[str]:
    options = transport_options(app)
    if options.get("retry_on_timeout"):
        yield (
            "broker_transport_options has retry_on_timeout: when the broker restarts, a worker may block for ever in a "
            "read; remove it"
        )
    if visibility_timeout(app) and not options.get("socket_timeout"):
        yield (
            "broker_transport_options has no socket_timeout: sending a task blocks for ever when Redis stops "
            'responding; add "socket_timeout": 10'
        )
    urls = [urlsplit(url) for url in broker_urls(app)]
    for setting in ("control_queue_durable", "event_queue_durable"):
        if {url.scheme for url in urls} & {"amqp", "amqps", "pyamqp"} and not app.conf[setting]:
            yield (
                f"{setting} is False: RabbitMQ 4.3 refuses a queue that is neither durable nor exclusive, and no worker "
                "starts; set it to True (an exclusive queue would reject a killed worker's restart)"
            )
    for url in urls:
        if url.scheme in {"memory", "filesystem"}:
            yield f"broker_url is {url.scheme}://, which is meant for tests; use Redis or RabbitMQ"
        elif url.hostname not in {None, "localhost", "127.0.0.1", "::1"} and url.password in {None, "", "guest"}:
            yield (
                f"broker_url has no password for {url.hostname}, so anyone who reaches it can read and send tasks; set "
                "a password in the broker and in the URL"
            )


def _misspelt(app: Celery) -> Iterator[str]:
    """Name what looks like a setting of Celery, which silently ignores what it does not know."""
    namespace = getattr(app, "namespace", None)
    if not namespace:
        return
    prefix = f"{namespace}_"
    known = {prefix + key.upper() for key in SETTING_KEYS} | EXTENSIONS
    for name in dir(settings):
        if name.startswith(prefix) and name not in known:
            close = difflib.get_close_matches(name, known, n=1, cutoff=0.88)
            if close:
                yield f"{name} is not a Celery setting and is ignored; did you mean {close[0]}?"
