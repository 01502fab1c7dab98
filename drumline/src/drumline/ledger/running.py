"""Running: a worker's process claims the row before the task starts, and closes it after the end.

A message only rings: whoever does not get the row acknowledges and leaves, so a second delivery is harmless whatever
its cause. Claims and closes have a connection of their own that does not wait for the disk: losing one of them means
that a task runs again, never that one is lost. The task's own writes are not touched.
"""

import math
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any
from uuid import UUID

import psycopg
from billiard.einfo import ExceptionInfo, ExceptionWithTraceback  # type: ignore[attr-defined]  # incomplete stubs
from celery import Task, signals, states
from celery.app.task import Context
from celery.app.trace import TraceInfo, trace_ok_t
from celery.exceptions import Ignore, Reject
from django.db import DatabaseError, InterfaceError

from drumline.ledger import storable
from drumline.ledger.database_errors import is_unavailable
from drumline.ledger.message import Message, ledger_id
from drumline.ledger.statements import TRACEBACK_LIMIT, RunKey, Statements, statements
from drumline.logs import get_logger
from drumline.worker import life

logger = get_logger(__name__)

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

    def __init__(self, key: RunKey) -> None:
        self.key = key
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
    if run is None or run.key.task_id != message.id:
        return False
    run.replacement = message
    return True


@dataclass(frozen=True, slots=True)
class End:
    """An end other than success that is to be written; `known` says that Celery has stored and announced it."""

    run: RunKey
    worker_id: UUID
    write: Callable[[Statements, UUID], None]
    known: bool


class Claims:
    """What this process claimed, and the closes that wait to be written with the next one."""

    def __init__(self) -> None:
        self._statements = statements()
        self._lock = threading.Lock()
        self._finished: list[RunKey] = []
        self._others: deque[End] = deque()
        self._pending = threading.Event()
        threading.Thread(target=self._write_what_lingers, name="drumline-closes", daemon=True).start()

    def claim(self, task_id: UUID, published: float) -> RunKey | None:
        """Take the row and return the run's key; None when the task is done, running elsewhere or discarded.

        `published` is when the message that rang was sent, in seconds since the epoch by its sender's clock. An error is raised after PATIENCE seconds without a database.
        """
        deadline = time.monotonic() + PATIENCE
        while True:
            with self._lock:
                try:
                    run = self._statements.claim(task_id, published, life.current_id(), self._finished)
                except FAILURES:
                    self._statements.reconnect()
                    if time.monotonic() > deadline:
                        raise
                else:
                    self._finished = []
                    return run
            time.sleep(0.5)

    def finished(self, run: RunKey) -> None:
        """Close the row, with the next claim or soon."""
        with self._lock:
            self._finished.append(run)
        self._pending.set()

    def ended(self, run: RunKey, write: Callable[[Statements, UUID], None], *, known: bool = False) -> None:
        """Write another end of a run now, or as soon as the database answers. See `End`."""
        with self._lock:
            self._others.append(End(run, life.current_id(), write, known))
        if not self.flush():
            self._pending.set()

    def flush(self) -> bool:
        """Write what waits; return whether nothing is left. It never raises, and no end holds another."""
        with self._lock:
            try:
                if self._finished:
                    self._statements.finish(life.current_id(), self._finished)
                    self._finished = []
            except Exception as error:  # noqa: BLE001  ids and numbers have no content to be refused for
                self._forget_connection(error)
                if is_unavailable(error):
                    return False
            for _ in range(len(self._others)):
                end = self._others.popleft()
                try:
                    self._write(end)
                except Exception as error:  # noqa: BLE001  see `_write`
                    # Behind the others: what fails for another reason than an outage must not hold them.
                    self._others.append(end)
                    self._forget_connection(error)
                    break
            return not self._finished and not self._others

    def _write(self, end: End) -> None:
        """Write an end, or a plain failure in place of one that is refused; raise when the database is away."""
        try:
            end.write(self._statements, end.worker_id)
        except Exception as error:
            if is_unavailable(error):
                raise
            refused = f"EndRefusedError: the end of this run could not be stored ({storable.error_text(error)})"
            logger.exception("end_refused", task_id=str(end.run.task_id), error=refused)
            try:
                self._statements.fail(end.worker_id, end.run, refused, traceback.format_exc(), announce=not end.known)
            except Exception as again:
                if is_unavailable(again):
                    raise
                # The worker takes the task back as one whose process died.
                logger.exception("end_dropped", task_id=str(end.run.task_id))

    def _forget_connection(self, error: Exception) -> None:
        logger.warning("ledger_unavailable", error=storable.error_text(error))
        try:
            self._statements.reconnect()
        except Exception:
            logger.exception("ledger_connection_not_closed")

    def _write_what_lingers(self) -> None:
        while True:
            try:
                self._pending.wait()
                self._pending.clear()
                time.sleep(LINGER)
                while not self.flush():
                    time.sleep(1)
            except Exception:
                # Without this thread nothing would close what a process ran last.
                logger.exception("closing_thread_failed")
                self._pending.set()
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
            key = claims().claim(task_id, _published(request))
        except FAILURES as error:
            logger.warning("claim_unavailable", task=task.name, task_id=uuid, error=str(error))
            return _leave(states.REJECTED, Reject("the ledger is not available", requeue=True))
        if key is None:
            logger.info("task_not_claimed", task=task.name, task_id=uuid)
            return _leave(states.IGNORED, Ignore("done, running elsewhere or discarded"))
        run = _current.run = Run(key)
        try:
            result = _contained(task, lambda: trace(uuid, args, kwargs, request), request)
        except Exception as error:
            # The task failed, and then its errback or the result's storage did, too.
            failed = storable.error_text(error), traceback.format_exc()
            claims().ended(key, lambda to, worker: to.fail(worker, key, *failed), known=True)
            raise
        finally:
            _current.run = None
        _close(run, result)
        return result

    trace_claimed.claims = True  # type: ignore[attr-defined]
    return trace_claimed


def _published(request: Any) -> float:
    """Return when the message was sent; 0 for a header that says no time, since anybody can write one."""
    try:
        published = float(request.get("published") or 0.0)
    except (TypeError, ValueError):
        return 0.0
    # Years that a timestamp holds.
    return published if math.isfinite(published) and 0.0 <= published < 2**37 else 0.0


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
        info = TraceInfo(states.FAILURE, TaskOutOfMemoryError(storable.text(error)))
        return trace_ok_t(info.handle_error_state(task, Context(request)), info, 0.0, None)
    if result.info is not None and isinstance(result.info.retval, MemoryError):
        result.info.retval = TaskOutOfMemoryError(storable.text(result.info.retval))
        result.retval.exception = ExceptionWithTraceback(result.info.retval, result.retval.traceback)
    return result


def _close(run: Run, result: Any) -> None:
    key, info = run.key, result.info
    state = info.state if info is not None else states.SUCCESS
    if (message := run.replacement) is not None:
        why = "retry" if state == states.RETRY else "replaced"
        claims().ended(key, lambda to, worker: to.requeue(worker, key, message, why))
    elif state == states.FAILURE:
        error, lines = (
            storable.error_text(info.retval),
            storable.text(getattr(result.retval, "traceback", ""), limit=TRACEBACK_LIMIT),
        )
        claims().ended(key, lambda to, worker: to.fail(worker, key, error, lines), known=True)
    elif state == states.REJECTED and info.retval.requeue:
        claims().ended(key, lambda to, worker: to.give_back(worker, key))
    elif state == states.REJECTED:
        error = f"rejected: {storable.text(info.retval.reason)}"
        claims().ended(key, lambda to, worker: to.fail(worker, key, error, ""), known=True)
    else:
        claims().finished(key)


@signals.worker_process_shutdown.connect
@signals.worker_shutdown.connect
def close_before_leaving(**_: Any) -> None:
    """Write what waits; without it the tasks would run again."""
    if claims.cache_info().currsize:
        claims().flush()
