"""Handlers of Celery's signals: workers that start, become ready and stop, and tasks that no process ran.

Refused before it runs, ready when it consumes, drained when it stops.
"""

from functools import partial
from typing import Any

from celery import Task, signals
from celery.worker.consumer import Consumer
from django.db import close_old_connections

from drumline import storable
from drumline.celery_hooks import controller, envelopes, pools
from drumline.celery_hooks.consumer import Pulse
from drumline.celery_hooks.versions import untested
from drumline.ledger import ends
from drumline.logs import get_logger
from drumline.message import ledger_id
from drumline.systemd import sd_notify
from drumline.worker import heartbeat, watchdog
from drumline.worker.claims import close_before_leaving
from drumline.worker.identity import NameTakenError, current_id, wait_for_name

logger = get_logger(__name__)

STOCK_REQUEST = Task.Request
OUR_REQUEST = "drumline.celery_hooks.request:LedgerRequest"
CELERY_ON_DECODE_ERROR = Consumer.on_decode_error
# Of messages with headers, where the ledger has its marks.
PROTOCOL = 2


def connect() -> None:
    """Connect every handler of this module."""
    for signal, handler in (
        (signals.celeryd_init, prepare_consumer),
        (signals.celeryd_init, warn_of_protocol),
        (signals.celeryd_init, warn_of_versions),
        (signals.worker_init, check_before_start),
        (signals.celeryd_after_setup, watch_requests),
        (signals.worker_ready, begin_life),
        (signals.worker_shutting_down, report_stopping),
        (signals.worker_process_shutdown, close_before_leaving),
        (signals.worker_shutdown, close_before_leaving),
        (signals.task_unknown, defer_unknown),
        (signals.task_rejected, defer_refused),
        (signals.task_revoked, discard_revoked),
        (signals.task_prerun, drop_stale_connections),
    ):
        signal.connect(handler)


def prepare_consumer(instance: Any, **_: Any) -> None:
    """Have the consumer show that its loop turns, and no message end it, before it is built."""
    envelopes.install()
    instance.app.steps["consumer"].add(Pulse)
    Consumer.on_decode_error = on_decode_error  # type: ignore[method-assign, assignment]


def check_before_start(sender: Any, **_: Any) -> None:
    """Refuse to start where a task would run without a claim, or beside itself."""
    if why := pools.refusal(sender.pool_cls):
        raise SystemExit(why)
    try:
        wait_for_name(sender.hostname)
    except NameTakenError as error:
        raise SystemExit(f"Not started: {error}.") from None


def watch_requests(instance: Any, **_: Any) -> None:
    """Have the ledger told of what only the main process sees; a project's own request class stays."""
    for task in instance.app.tasks.values():
        if task.Request == STOCK_REQUEST:
            task.Request = OUR_REQUEST
    if pools.has_processes(instance.pool):
        pools.stop_promptly(instance.pool)
    else:
        pools.report_errors(instance.pool)


def begin_life(sender: Any, **_: Any) -> None:
    """READY only now: the broker is connected and the queues are consumed."""
    if watchdog.current() is not None:
        return
    celery = controller.begin(sender.controller)
    dog = watchdog.begin(celery, end=heartbeat.end_process)
    sd_notify("READY=1", f"STATUS={dog.status()}")
    # Pools without processes close in this one.
    beat = heartbeat.begin(celery, trouble=dog.trouble, before_end=close_before_leaving)
    dog.watch(lambda: beat.failed)
    if not pools.has_processes(sender.controller.pool):
        pools.leave_on_quit(beat.end)


def report_stopping(**_: Any) -> None:
    """Say that what still runs is being finished."""
    dog = watchdog.current()
    if dog is not None:
        dog.draining = True
        sd_notify("STOPPING=1", f"STATUS={dog.status()}")
    heartbeat.leave_reserved()


def defer_unknown(message: Any, name: str, id: str, **_: Any) -> None:  # noqa: A002  Celery's name
    """Keep a task that this worker does not know: a release may be rolling out."""
    if message.headers.get("durable"):
        error = f"no worker knows the task {name}"
        heartbeat.later(partial(ends.task_deferred, ledger_id(id), error=error, worker_id=current_id()))


def defer_refused(message: Any, exc: Exception | None, **_: Any) -> None:
    """Keep a task whose message this worker refuses: a serializer that it does not accept, a header that is invalid."""
    headers = message.headers or {}
    if headers.get("durable") and exc is not None:
        error = f"a worker refused the message: {storable.error_text(exc)}"
        defer = partial(ends.task_deferred, error=error, worker_id=current_id(), refused=True)
        heartbeat.later(partial(defer, ledger_id(headers["id"])))


def on_decode_error(consumer: Any, message: Any, exc: Exception) -> None:
    """Keep a task that this worker cannot decode, which Celery logs and acknowledges without a signal."""
    CELERY_ON_DECODE_ERROR(consumer, message, exc)
    defer_refused(message, exc)


def warn_of_protocol(conf: Any, **_: Any) -> None:
    """Say at the start that no task is kept."""
    if conf.task_protocol != PROTOCOL:
        logger.error("ledger_not_used", reason=f"CELERY_TASK_PROTOCOL is not {PROTOCOL}, so no task is durable")


def warn_of_versions(**_: Any) -> None:
    """Say at the start that something may have moved under the hooks."""
    for line in untested():
        logger.warning("version_not_tested", reason=line)


def discard_revoked(request: Any, expired: bool = False, **_: Any) -> None:  # noqa: FBT001, FBT002  Celery's name
    """Discard what was terminated, or revoked by a project's own request class; not what a stopping worker cancels."""
    dog = watchdog.current()
    if getattr(request, "durable", False) and dog is not None and (expired or not dog.draining):
        reason = "expired before it was started" if expired else "revoked"
        terminated = partial(ends.task_terminated, ledger_id(request.id), worker_id=current_id())
        heartbeat.later(partial(terminated, reason=reason, generation=request.replaced_task_nesting or 0))


def drop_stale_connections(sender: "Task[..., Any]", **_: Any) -> None:
    """Replace a database connection that did not survive since the last task.

    CELERY_DB_REUSE_MAX keeps connections across tasks, so a restarted database would fail every one of them. An
    eager task runs inside its caller's transaction, whose connection must stay.
    """
    if not sender.request.is_eager:
        close_old_connections()
