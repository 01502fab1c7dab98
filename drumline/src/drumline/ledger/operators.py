"""What a person or a program may do with tasks that were sent: ask, requeue, discard."""

from collections.abc import Iterable
from uuid import UUID

from drumline.ledger import services
from drumline.message import ledger_id
from drumline.models import DurableTask


def status(task_id: str | UUID) -> DurableTask.State | None:
    """Return where a task stands by its Celery task id; None without a row, which a finished task has for a day."""
    found = DurableTask.objects.filter(id=ledger_id(str(task_id))).values_list("state", flat=True).first()
    return None if found is None else DurableTask.State(found)


def requeue(task_ids: Iterable[str | UUID], *, by: str) -> int:
    """Queue dead letters and discarded tasks again with all attempts before them; return how many it was.

    `by` says who did it, and is kept in each task's history.
    """
    return services.tasks_requeue([ledger_id(str(task_id)) for task_id in task_ids], by=by)


def discard(task_ids: Iterable[str | UUID], *, by: str, reason: str) -> int:
    """Discard tasks that wait or are dead letters; return how many it was. A running task is not stopped.

    `by` and `reason` are kept in each task's history.
    """
    return services.tasks_discard([ledger_id(str(task_id)) for task_id in task_ids], reason=reason, by=by)
