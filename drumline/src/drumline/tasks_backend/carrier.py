"""From the claimed row to the Django task's function, and back to the row."""

from asyncio import CancelledError
from datetime import UTC, datetime
from functools import partial
from inspect import iscoroutinefunction
from traceback import format_exception
from typing import Any

from celery import Task, shared_task, signals
from celery.exceptions import Reject, WorkerShutdown, WorkerTerminate
from django.core.exceptions import ImproperlyConfigured
from kombu.utils.compat import detect_environment

from drumline import storable
from drumline.ledger.current import CurrentRun, current_run
from drumline.ledger.ends import UNKNOWN_DELIVERIES, unknown_delay
from drumline.ledger.selectors import ledger_rows
from drumline.tasks_backend.call import CARRIER, Call
from drumline.tasks_backend.framework import (
    TaskContext,
    TaskError,
    TaskResultDoesNotExist,
    TaskResultStatus,
    normalize_json,
    task_finished,
    task_started,
)
from drumline.tasks_backend.results import class_path, new_result, result_by_id, result_of, update
from drumline.worker.claims import FAILURES
from drumline.worker.heartbeat import later
from drumline.worker.identity import current_id


class TaskExitError(RuntimeError):
    """A task raised SystemExit, or cancelled itself.

    Celery would end the worker's process for it, and the task would be started again.
    """


# No result of Celery's: the row holds it. JSON whatever the project's Celery tasks use, for a retry as well.
@shared_task(
    name=CARRIER, bind=True, ignore_result=True, serializer="json", typing=False, max_retries=UNKNOWN_DELIVERIES - 1
)
def run_task(self: "Task[..., None]", *args: Any, **kwargs: Any) -> None:
    """Run the Django task that the message names, leave its end to be kept, and send the framework's signals."""
    call = Call.read(self.request.headers)
    if call is None:
        raise ImproperlyConfigured(f"{CARRIER} runs Django's tasks and nothing else: send it by a task's enqueue()")
    run = current_run()
    try:
        task = call.task()
    except ImportError as error:
        # As for a Celery task that this worker does not know: a release may be rolling out.
        _name_exception(run, error)
        raise self.retry(exc=error, countdown=unknown_delay(self.request.retries).total_seconds()) from error
    result = _earlier(run) or _first(self, call, task, args, kwargs)
    sender = type(task.get_backend())
    task_started.send_robust(sender, task_result=result)
    try:
        value = _call(task, result)
        kept = None if value is None else storable.encode_strictly(value)
    except (Exception, SystemExit, CancelledError) as error:
        if _ends_the_worker(error):
            raise
        path = _name_exception(run, error)
        result.errors.append(TaskError(exception_class_path=path, traceback="".join(format_exception(error))))
        update(result, status=TaskResultStatus.FAILED, finished_at=datetime.now(UTC))
        task_finished.send_robust(sender, task_result=result)
        if not isinstance(error, Exception):
            raise TaskExitError(storable.error_text(error)) from error
        raise
    if run is not None:
        run.result = kept
    update(result, status=TaskResultStatus.SUCCESSFUL, finished_at=datetime.now(UTC), _return_value=value)
    task_finished.send_robust(sender, task_result=result)


def _earlier(run: CurrentRun | None) -> Any:
    """Return the result of a task that was started before, of which the row alone knows; None for a first start."""
    if run is None or run.key.run == 1:
        return None
    try:
        return result_of(ledger_rows().get(id=run.key.task_id))
    except FAILURES as error:
        # The task has not begun: as when the row cannot be claimed.
        raise Reject(f"the ledger is not available: {storable.error_text(error)}", requeue=True) from error


def _first(carrier: "Task[..., None]", call: Call, task: Any, args: Any, kwargs: Any) -> Any:
    request = carrier.request
    worker = request.hostname if request.is_eager else current_id()
    which = task, call, str(request.id)
    running = TaskResultStatus.RUNNING
    return new_result(which, (args, kwargs), running, started_at=datetime.now(UTC), worker_ids=[str(worker)])


def _call(task: Any, result: Any) -> Any:
    if iscoroutinefunction(task.func) and detect_environment() != "default":
        raise ImproperlyConfigured(
            f"{task.module_path} is a coroutine function, and the event loop that it needs would stop every other "
            f"greenlet of this worker; serve queue {task.queue_name} with --pool prefork or threads"
        )
    context: list[Any] = [TaskContext(task_result=result)] if task.takes_context else []
    return normalize_json(task.call(*context, *result.args, **result.kwargs))


def _name_exception(run: CurrentRun | None, error: BaseException) -> str:
    path = class_path(type(error))
    if run is not None:
        run.exception = path
    return path


def _ends_the_worker(error: BaseException) -> bool:
    """Return whether Celery, or the pool's handler of a signal, ends the process by this."""
    if isinstance(error, (WorkerShutdown, WorkerTerminate)):
        return True
    return isinstance(error, SystemExit) and isinstance(error.code, int) and error.code < 0


def connect() -> None:
    """Have Celery tell of the ends that no run reports."""
    signals.task_failure.connect(report_failure)
    signals.task_revoked.connect(report_revoked)


def report_failure(sender: Any, task_id: str, **_: Any) -> None:
    """Send `task_finished` for an end that no run reported: the worker or its process died, or it took too long."""
    if current_run() is None and getattr(sender, "name", None) == CARRIER:
        later(partial(_report, task_id))


def report_revoked(sender: Any, request: Any, **_: Any) -> None:
    """Send `task_finished` for a task that was discarded, revoked, or has expired."""
    if getattr(sender, "name", None) == CARRIER:
        later(partial(_report, request.id))


def _report(task_id: str) -> None:
    try:
        result = result_by_id(task_id)
    except TaskResultDoesNotExist:
        return
    if result.is_finished:
        task_finished.send_robust(type(result.task.get_backend()), task_result=result)
