"""Celery's `Task.__trace__`: whatever executes a task claims its row before, and closes it after."""

import math
import traceback
from collections.abc import Callable
from typing import Any

from billiard.einfo import ExceptionInfo, ExceptionWithTraceback  # type: ignore[attr-defined]  # incomplete stubs
from celery import Task, states
from celery.app.task import Context
from celery.app.trace import TraceInfo, trace_ok_t
from celery.exceptions import Ignore, Reject

from drumline import storable
from drumline.ledger.current import CurrentRun, running
from drumline.ledger.store import TRACEBACK_LIMIT
from drumline.logs import get_logger
from drumline.message import ledger_id
from drumline.worker.claims import FAILURES, claims

logger = get_logger(__name__)


class TaskOutOfMemoryError(RuntimeError):
    """A task raised MemoryError.

    Celery would end the whole worker for a MemoryError, and the message would come back to the next one.
    """


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
        with running(key) as run:
            try:
                result = _contained(task, lambda: trace(uuid, args, kwargs, request), request)
            except Exception as error:
                # The task failed, and then its errback or the result's storage did, too.
                failed = storable.error_text(error), traceback.format_exc()
                claims().ended(key, lambda to, worker: to.fail(worker, key, *failed), known=True)
                raise
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


def _close(run: CurrentRun, result: Any) -> None:
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
        exception = run.exception
        claims().ended(key, lambda to, worker: to.fail(worker, key, error, lines, exception=exception), known=True)
    elif state == states.REJECTED and info.retval.requeue:
        claims().ended(key, lambda to, worker: to.give_back(worker, key))
    elif state == states.REJECTED:
        error = f"rejected: {storable.text(info.retval.reason)}"
        claims().ended(key, lambda to, worker: to.fail(worker, key, error, ""), known=True)
    elif (kept := run.result) is not None:
        # Not with the others: what has content may be refused, and must not hold them.
        claims().ended(key, lambda to, worker: to.succeed(worker, key, kept), known=True)
    else:
        claims().finished(key)
