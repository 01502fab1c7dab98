"""The life of a worker: ready when it consumes, a status line while it runs, no stale database connection."""

import threading
from typing import Any

from celery import Task, signals
from celery.worker import WorkController, state
from django.db import close_old_connections

from drumline.worker.notify import sd_notify

STATUS_SECONDS = 5.0


class Reporter(threading.Thread):
    """Tells systemd every few seconds what the worker does.

    A thread, because the worker's own timers stand still while it reconnects. It belongs to the main process and
    takes no lock that a forked child could inherit.
    """

    def __init__(self, worker: WorkController) -> None:
        super().__init__(name="drumline-reporter", daemon=True)
        self.worker = worker
        self.stopping = threading.Event()

    def run(self) -> None:
        """Report until the worker stops."""
        while not self.stopping.wait(STATUS_SECONDS):
            sd_notify(f"STATUS={self.status()}")

    def status(self) -> str:
        """Say which queues are consumed, how many tasks run and how many are done."""
        queues = ", ".join(sorted(self.worker.app.amqp.queues.consume_from))
        return f"{queues}: {len(state.active_requests)} running, {sum(state.total_count.values())} done"


_reporters: list[Reporter] = []


@signals.worker_ready.connect
def report_ready(sender: Any, **_: Any) -> None:
    """READY only now: the broker is connected and the queues are consumed."""
    reporter = Reporter(sender.controller)
    if not sd_notify("READY=1", f"STATUS={reporter.status()}"):
        return
    reporter.start()
    _reporters.append(reporter)


@signals.worker_shutting_down.connect
def report_stopping(**_: Any) -> None:
    """Say that what still runs is being finished."""
    for reporter in _reporters:
        reporter.stopping.set()
    sd_notify("STOPPING=1", f"STATUS=draining, {len(state.active_requests)} running")


@signals.task_prerun.connect
def drop_stale_connections(sender: "Task[..., Any]", **_: Any) -> None:
    """Replace a database connection that did not survive since the last task.

    CELERY_DB_REUSE_MAX keeps connections across tasks, so a restarted database would fail every one of them. An
    eager task runs inside its caller's transaction, whose connection must stay.
    """
    if not sender.request.is_eager:
        close_old_connections()
