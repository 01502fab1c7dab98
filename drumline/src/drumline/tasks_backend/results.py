"""What a row says of a Django task, as the framework's result."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from drumline.ledger.selectors import ledger_rows, task_arguments
from drumline.message import Message
from drumline.models import DurableTask
from drumline.tasks_backend.call import Call
from drumline.tasks_backend.framework import TaskError, TaskResult, TaskResultDoesNotExist, TaskResultStatus

State = DurableTask.State

STATUS = {
    State.QUEUED: TaskResultStatus.READY,
    State.RUNNING: TaskResultStatus.RUNNING,
    State.FINISHED: TaskResultStatus.SUCCESSFUL,
    State.DEAD: TaskResultStatus.FAILED,
    State.DISCARDED: TaskResultStatus.FAILED,
}
# Entries of a row's history that end a run.
RUN_ENDS = {"failed", "lost"}


# What stands for an end that no exception of the task's own caused, by its entry in the history.
EXCEPTIONS = {
    "failed": "drumline.relay.announcements.EndRefusedError",
    "lost": "celery.exceptions.WorkerLostError",
    "unknown": "celery.exceptions.NotRegistered",
    "refused": "drumline.broker.publishing.RefusedError",
    "discarded": "celery.exceptions.TaskRevokedError",
    "expired": "celery.exceptions.TaskRevokedError",
    "revoked": "celery.exceptions.TaskRevokedError",
}


def class_path(of: type) -> str:
    """Return the path by which a class is imported."""
    return f"{of.__module__}.{of.__qualname__}"


def result_by_id(result_id: str) -> Any:
    """See `LedgerBackend.get_result`."""
    try:
        row = ledger_rows().get(id=UUID(str(result_id)))
    except (ValueError, DurableTask.DoesNotExist):
        raise TaskResultDoesNotExist(result_id) from None
    return result_of(row)


def result_of(row: DurableTask) -> Any:
    """Return the row's result; raise TaskResultDoesNotExist for a task of Celery's own, or one whose code is gone."""
    call = Call.read(Message.loads(row.message).headers)
    if call is None:
        raise TaskResultDoesNotExist(f"{row.id} is {row.name}, which is no task of Django's tasks framework")
    try:
        task = call.task()
    except ImportError as error:
        raise TaskResultDoesNotExist(f"{row.id} is a call of {call.path}, which cannot be imported: {error}") from error
    args, kwargs = task_arguments(row)
    result = new_result(
        (task, call, str(row.id)),
        (args, kwargs),
        STATUS[State(row.state)],
        started_at=row.started_at,
        finished_at=row.finished_at,
        errors=_errors(row),
        worker_ids=_workers(row),
    )
    if row.result is not None:
        update(result, _return_value=json.loads(row.result))
    return result


def new_result(  # noqa: PLR0913  the framework's fields
    which: tuple[Any, Call, str],
    arguments: tuple[Sequence[Any], Mapping[str, Any]],
    status: TaskResultStatus,
    *,
    started_at: datetime | None = None,
    finished_at: datetime | None = None,
    errors: Sequence[Any] = (),
    worker_ids: Sequence[str] = (),
) -> Any:
    """Return the result of `which` task, call and id; raise TypeError or ValueError for arguments that are not JSON."""
    task, call, task_id = which
    args, kwargs = arguments
    return TaskResult(
        task=task,
        id=task_id,
        status=status,
        enqueued_at=call.enqueued,
        # The row knows the last start alone.
        started_at=started_at,
        last_attempted_at=started_at,
        finished_at=finished_at,
        args=list(args),
        kwargs=dict(kwargs),
        backend=call.backend,
        errors=list(errors),
        worker_ids=list(worker_ids),
    )


def update(result: Any, **values: Any) -> None:
    """Change attributes of a result, which the framework freezes for everybody else."""
    for name, value in values.items():
        object.__setattr__(result, name, value)


def _workers(row: DurableTask) -> list[str]:
    """Return the worker of each run; the one that runs, or ended well, has no entry in the history."""
    workers = [entry["worker"] for entry in row.history if entry["what"] in RUN_ENDS]
    return [*workers, str(row.worker_id)] if row.state in {State.RUNNING, State.FINISHED} else workers


def _errors(row: DurableTask) -> list[Any]:
    last = row.history[-1] if row.history and row.state in {State.DEAD, State.DISCARDED} else None
    errors = []
    for entry in row.history:
        if entry["what"] in RUN_ENDS or entry is last:
            path = entry.get("exception") or EXCEPTIONS[entry["what"]]
            said = (row.traceback or row.error) if entry is last else entry.get("error", "")
            errors.append(TaskError(exception_class_path=path, traceback=said))
    return errors
