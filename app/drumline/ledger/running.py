"""Running: a worker's process claims the row before the task starts, and closes it after the end.

A message only rings: whoever does not get the row acknowledges and leaves, so a second delivery is harmless whatever
its cause. Claims and closes have a connection of their own that does not wait for the disk: losing one of them means
that a task runs again, never that one is lost. The task's own writes are not touched.
"""

import threading
import time
import traceback
from collections.abc import Callable
from functools import cache, partial
from typing import Any
from uuid import UUID

import psycopg
import structlog
from billiard.einfo import ExceptionInfo, ExceptionWithTraceback  # type: ignore[attr-defined]  # incomplete stubs
from celery import Task, signals, states
from celery.app.task import Context
from celery.app.trace import TraceInfo, trace_ok_t
from celery.exceptions import Ignore, Reject
from django.db import DatabaseError, InterfaceError

from drumline.ledger.message import Message, ledger_id
from drumline.ledger.statements import End, Statements, statements
from drumline.worker import life

logger = structlog.get_logger(__name__)

# How long a close may wait for company before it is written alone, in seconds.
LINGER = 0.1
# How long a process waits for the database before it gives the message back, in seconds.
PATIENCE = 20.0

FAILURES = (DatabaseError, InterfaceError, psycopg.Error)


class TaskOutOfMemoryError(RuntimeError):
    """A task raised MemoryError.

    Celery would end the whole worker for a MemoryError, and the message would come back to the next one.
    """


class Run:
    """What this thread runs now."""

    def __init__(self, task_id: UUID, attempt: int) -> None:
        self.task_id = task_id
        self.attempt = attempt
        # The message that takes this one's place: a retry, or Task.replace.
        self.replacement: Message | None = None


class _Current(threading.local):
    run: Run | None = None


_current = _Current()


def replaced_by(message: Message) -> bool:
    """Keep a message that has the running task's own id until the run ends, and return whether it was one.

    A retry is sent from within the task, whose transaction is then rolled back; the ledger must not lose it with that.
    """
    run = _current.run
    if run is None or run.task_id != message.id:
        return False
    run.replacement = message
    return True


class Claims:
    """What this process claimed, and the closes that wait to be written with the next one."""

    def __init__(self) -> None:
        self._statements = statements()
        self._lock = threading.Lock()
        self._finished: list[End] = []
        self._others: list[Callable[[], None]] = []
        self._pending = threading.Event()
        threading.Thread(target=self._write_what_lingers, name="drumline-closes", daemon=True).start()

    def claim(self, task_id: UUID, published: float) -> int | None:
        """Take the row and return the attempt's number; None when it is done, running elsewhere or discarded.

        `published` is when the message that rang was sent, in seconds since the epoch by its sender's clock. An error is raised after PATIENCE seconds without a database.
        """
        deadline = time.monotonic() + PATIENCE
        while True:
            with self._lock:
                try:
                    attempt = self._statements.claim(task_id, published, life.current_id(), self._finished)
                except FAILURES:
                    self._statements.reconnect()
                    if time.monotonic() > deadline:
                        raise
                else:
                    self._finished = []
                    return attempt
            time.sleep(0.5)

    def finished(self, end: End) -> None:
        """Close the row, with the next claim or soon."""
        with self._lock:
            self._finished.append(end)
        self._pending.set()

    def ended(self, write: Callable[[Statements, UUID], None]) -> None:
        """Write another end of a run now, or as soon as the database answers."""
        with self._lock:
            self._others.append(partial(write, self._statements, life.current_id()))
        if not self.flush():
            self._pending.set()

    def flush(self) -> bool:
        """Write what waits; return whether nothing is left."""
        with self._lock:
            try:
                if self._finished:
                    self._statements.finish(life.current_id(), self._finished)
                    self._finished = []
                while self._others:
                    self._others[0]()
                    del self._others[0]
            except FAILURES as error:
                logger.warning("ledger_unavailable", error=str(error))
                self._statements.reconnect()
                return False
        return True

    def _write_what_lingers(self) -> None:
        while True:
            self._pending.wait()
            self._pending.clear()
            time.sleep(LINGER)
            while not self.flush():
                time.sleep(1)


@cache
def claims() -> Claims:
    """Return this process's claims; they begin after the fork, with a connection and a thread of their own."""
    return Claims()


def install() -> None:
    """Put the claim around every execution of a task, outside everything else that Celery does for it.

    As an attribute of the class, since Celery builds tracers in several places: each process of a prefork pool, the
    consumer after each connection, `pool_restart`. Pools of threads run what the consumer builds.
    """
    Task.__trace__ = Tracer()


class Tracer:
    """Celery's `Task.__trace__`: whatever a task is given as its tracer claims before it runs."""

    def __get__(self, task: Any, owner: Any = None) -> Any:
        """Return the tracer; None when nobody has built one."""
        return None if task is None else task.__dict__.get("__trace__")

    def __set__(self, task: Any, trace: Any) -> None:
        """Keep the tracer with the claim around it, once."""
        claimed = trace is None or hasattr(trace, "claims")
        task.__dict__["__trace__"] = trace if claimed else _claimed(task, trace)


def _claimed(task: Any, trace: Callable[..., Any]) -> Callable[..., Any]:
    def trace_claimed(uuid: str, args: Any, kwargs: Any, request: Any = None) -> Any:
        if not request or not request.get("durable"):
            return trace(uuid, args, kwargs, request)
        task_id = ledger_id(uuid)
        try:
            attempt = claims().claim(task_id, request.get("published") or 0.0)
        except FAILURES as error:
            logger.warning("claim_unavailable", task=task.name, task_id=uuid, error=str(error))
            return _leave(states.REJECTED, Reject("the ledger is not available", requeue=True))
        if attempt is None:
            logger.info("task_not_claimed", task=task.name, task_id=uuid)
            return _leave(states.IGNORED, Ignore("done, running elsewhere or discarded"))
        run = _current.run = Run(task_id, attempt)
        try:
            result = _contained(task, lambda: trace(uuid, args, kwargs, request), request)
        except Exception as error:
            # The task failed, and then its errback or the result's storage did, too.
            failed = f"{type(error).__name__}: {error}", traceback.format_exc()
            claims().ended(lambda to, worker: to.fail(worker, (task_id, attempt), *failed))
            raise
        finally:
            _current.run = None
        _close(run, result)
        return result

    trace_claimed.claims = True  # type: ignore[attr-defined]
    return trace_claimed


def _leave(state: str, why: Exception) -> Any:
    """Return what Celery's tracer returns for a task that raised this."""
    try:
        raise why
    except (Ignore, Reject):
        return trace_ok_t(ExceptionInfo(internal=True), TraceInfo(state, why), 0.0, None)


def _contained(task: Any, trace: Callable[[], Any], request: Any) -> Any:
    """Run the task, and make a MemoryError an ordinary failure."""
    try:
        result = trace()
    except MemoryError as error:
        info = TraceInfo(states.FAILURE, TaskOutOfMemoryError(str(error)))
        return trace_ok_t(info.handle_error_state(task, Context(request)), info, 0.0, None)
    if result.info is not None and isinstance(result.info.retval, MemoryError):
        result.info.retval = TaskOutOfMemoryError(str(result.info.retval))
        result.retval.exception = ExceptionWithTraceback(result.info.retval, result.retval.traceback)
    return result


def _close(run: Run, result: Any) -> None:
    end, info = (run.task_id, run.attempt), result.info
    state = info.state if info is not None else states.SUCCESS
    if (message := run.replacement) is not None:
        why = "retry" if state == states.RETRY else "replaced"
        claims().ended(lambda to, worker: to.requeue(worker, end, message, why))
    elif state == states.FAILURE:
        error = f"{type(info.retval).__name__}: {info.retval}"
        lines = str(getattr(result.retval, "traceback", ""))
        claims().ended(lambda to, worker: to.fail(worker, end, error, lines))
    elif state == states.REJECTED and info.retval.requeue:
        claims().ended(lambda to, worker: to.give_back(worker, end))
    elif state == states.REJECTED:
        claims().ended(lambda to, worker: to.fail(worker, end, f"rejected: {info.retval.reason}", ""))
    else:
        claims().finished(end)


@signals.worker_process_shutdown.connect
@signals.worker_shutdown.connect
def close_before_leaving(**_: Any) -> None:
    """Write what waits; without it the tasks would run again."""
    if claims.cache_info().currsize:
        claims().flush()
