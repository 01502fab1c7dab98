"""What a worker held when it died, or its process did, is taken back."""

from collections.abc import Collection
from datetime import UTC, datetime
from uuid import UUID

from django.db import transaction

from drumline.ledger.store import State, event, store
from drumline.models import DurableTask, Worker


@transaction.atomic
def task_lost(
    task_id: UUID, *, worker_id: UUID, error: str, counted: bool = True, generation: int | None = None
) -> DurableTask.State | None:
    """Take a task back whose process died: it is queued again, or a dead letter after its last attempt.

    An attempt that is not `counted` was ended by whoever stopped the worker, and the task gets another one for it.
    `generation` is that of the run that ended, by its message: a task that replaced itself may run here already.
    Return where it stands now, or None when it did not run under this worker.
    """
    ledger = store()
    row = ledger.lock_run(task_id, worker_id, generation)
    if row is None:
        return None
    row.history.append(event("lost", worker_id, row.attempt, error=error))
    row.max_attempts += not counted
    if row.attempt - row.retries < row.max_attempts:
        ledger.queue([row], datetime.now(UTC))
        return State.QUEUED
    ledger.end([row], State.DEAD, f"{error} (attempt {row.attempt}, the last one)", announce=True)
    return State.DEAD


def messages_left(task_ids: Collection[UUID]) -> int:
    """Have the relay publish what waits of these tasks, whose messages a worker left or no broker took; return how many."""
    ledger = store()
    left = ledger.mark_unpublished(task_ids)
    if left:
        ledger.wake()
    return left


def worker_release(worker_id: UUID, *, error: str, counted: bool = True) -> int:
    """Take back everything that a worker's life still holds; return how many tasks it ran. See `task_lost`."""
    for reserved in Worker.objects.filter(id=worker_id).values_list("reserved", flat=True):
        messages_left([UUID(task_id) for task_id in reserved or ()])
    held = DurableTask.objects.filter(worker_id=worker_id, state=State.RUNNING).values_list("id", flat=True)
    return sum(
        task_lost(task_id, worker_id=worker_id, error=error, counted=counted) is not None for task_id in list(held)
    )
