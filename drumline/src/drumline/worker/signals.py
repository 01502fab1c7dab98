"""The life of a worker in Celery's signals: ready when it consumes, drained when it stops, and nothing left unsaid."""

import time
from functools import partial
from typing import Any

from celery import Task, bootsteps, signals
from celery.worker.consumer import Consumer
from django.db import close_old_connections

from drumline import storable
from drumline.celery_hooks import envelopes, pools
from drumline.ledger import services
from drumline.logs import get_logger
from drumline.message import ledger_id
from drumline.systemd import sd_notify
from drumline.worker import claims, life, names

logger = get_logger(__name__)

STOCK_REQUEST = Task.Request
OUR_REQUEST = "drumline.celery_hooks.request:LedgerRequest"
# Seconds between two connections, when the first ended at once.
PAUSE = 2.0
CELERY_ON_DECODE_ERROR = Consumer.on_decode_error
# Of messages with headers, where the ledger has its marks.
PROTOCOL = 2


class Pulse(bootsteps.StartStopStep):
    """Shows that the event loop turns. A consumer forgets its timers when it connects again, and starts its steps."""

    requires = ("celery.worker.consumer.connection:Connection",)

    def __init__(self, parent: Any, **kwargs: Any) -> None:
        super().__init__(parent, **kwargs)
        self._stopped = -PAUSE
        envelopes.guard(parent)

    def start(self, parent: Any) -> None:
        """Beat from now on."""
        parent.timer.call_repeatedly(1.0, self.beat)

    def stop(self, parent: Any) -> None:
        """Wait before the broker is tried again, if the last connection was of no use.

        Celery backs off from a broker that it cannot reach, and not from one that refuses each write: it would fill the
        log with five tracebacks a second.
        """
        if time.monotonic() - self._stopped < PAUSE:
            time.sleep(PAUSE)
        self._stopped = time.monotonic()

    def beat(self) -> None:
        """Tell the life."""
        this = life.current()
        if this is not None:
            this.tick()


@signals.celeryd_init.connect
def watch_event_loop(instance: Any, **_: Any) -> None:
    """Add the step, before the consumer is built, and read what it fetches with care."""
    envelopes.install()
    instance.app.steps["consumer"].add(Pulse)


@signals.worker_init.connect
def check_before_start(sender: Any, **_: Any) -> None:
    """Refuse to start where a task would run without a claim, or beside itself."""
    if why := pools.refusal(sender.pool_cls):
        raise SystemExit(why)
    try:
        names.wait_for_name(sender.hostname)
    except names.NameTakenError as error:
        raise SystemExit(f"Not started: {error}.") from None


@signals.celeryd_after_setup.connect
def watch_requests(instance: Any, **_: Any) -> None:
    """Have the ledger told of what only the main process sees; a project's own request class stays."""
    for task in instance.app.tasks.values():
        if task.Request == STOCK_REQUEST:
            task.Request = OUR_REQUEST
    if not pools.has_processes(instance.pool):
        pools.report_errors(instance.pool)


@signals.worker_ready.connect
def begin_life(sender: Any, **_: Any) -> None:
    """READY only now: the broker is connected and the queues are consumed."""
    if life.current() is not None:
        return
    # Pools without processes close in this one.
    this = life.begin(sender.controller, before_end=claims.close_before_leaving)
    sd_notify("READY=1", f"STATUS={this.status()}")
    this.start()
    if not pools.has_processes(sender.controller.pool):
        pools.leave_on_quit(this.end)


@signals.worker_shutting_down.connect
def report_stopping(**_: Any) -> None:
    """Say that what still runs is being finished."""
    this = life.current()
    if this is not None:
        this.draining = True
        sd_notify("STOPPING=1", f"STATUS={this.status()}")


@signals.task_unknown.connect
def defer_unknown(message: Any, name: str, id: str, **_: Any) -> None:  # noqa: A002  Celery's name
    """Keep a task that this worker does not know: a release may be rolling out."""
    if message.headers.get("durable"):
        error = f"no worker knows the task {name}"
        life.later(partial(services.task_deferred, ledger_id(id), error=error, worker_id=life.current_id()))


@signals.task_rejected.connect
def defer_refused(message: Any, exc: Exception | None, **_: Any) -> None:
    """Keep a task whose message this worker refuses: a serializer that it does not accept, a header that is invalid."""
    headers = message.headers or {}
    if headers.get("durable") and exc is not None:
        error = f"a worker refused the message: {storable.error_text(exc)}"
        defer = partial(services.task_deferred, error=error, worker_id=life.current_id(), refused=True)
        life.later(partial(defer, ledger_id(headers["id"])))


@signals.celeryd_init.connect
def watch_decoding(**_: Any) -> None:
    """Learn of a message that this worker cannot decode, which Celery logs and acknowledges, without a signal."""
    Consumer.on_decode_error = on_decode_error  # type: ignore[method-assign, assignment]


def on_decode_error(consumer: Any, message: Any, exc: Exception) -> None:
    """Leave it to Celery, then keep the task."""
    CELERY_ON_DECODE_ERROR(consumer, message, exc)
    defer_refused(message, exc)


@signals.celeryd_init.connect
def warn_of_protocol(conf: Any, **_: Any) -> None:
    """Say at the start that no task is kept."""
    if conf.task_protocol != PROTOCOL:
        logger.error("ledger_not_used", reason=f"CELERY_TASK_PROTOCOL is not {PROTOCOL}, so the ledger keeps no task")


@signals.task_revoked.connect
def discard_revoked(request: Any, expired: bool = False, **_: Any) -> None:  # noqa: FBT001, FBT002  Celery's name
    """Discard what was terminated, or revoked by a project's own request class; not what a stopping worker cancels."""
    this = life.current()
    if getattr(request, "durable", False) and this is not None and (expired or not this.draining):
        reason = "expired before it was started" if expired else "revoked"
        terminated = partial(services.task_terminated, ledger_id(request.id), worker_id=life.current_id())
        this.later(partial(terminated, reason=reason, generation=request.replaced_task_nesting or 0))


@signals.task_prerun.connect
def drop_stale_connections(sender: "Task[..., Any]", **_: Any) -> None:
    """Replace a database connection that did not survive since the last task.

    CELERY_DB_REUSE_MAX keeps connections across tasks, so a restarted database would fail every one of them. An
    eager task runs inside its caller's transaction, whose connection must stay.
    """
    if not sender.request.is_eager:
        close_old_connections()
