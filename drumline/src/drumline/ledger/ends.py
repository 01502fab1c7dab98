"""Ends that no run reports: a time limit, a revocation, an expiry, a message that nobody takes."""

from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from uuid import UUID

from django.db import transaction

from drumline.ledger.store import State, event, failure, store
from drumline.models import DurableTask

# A task that no worker knows: a release is rolling out, or its code is gone.
UNKNOWN_DELIVERIES = 10
DEFERRED = {"unknown", "refused"}


def unknown_delay(earlier: int) -> timedelta:
    """Return how long to wait for a release that knows the task, after so many earlier deliveries in vain."""
    return timedelta(seconds=min(5 * 2**earlier, 300))


@transaction.atomic
def task_failed(
    task_id: UUID, *, worker_id: UUID, error: str, exception: str = "", generation: int | None = None
) -> bool:
    """Make a dead letter of a task whose process could not do it, as at the hard time limit.

    `exception` is the import path of a class that says what happened. See `recovery.task_lost`.
    """
    ledger = store()
    row = ledger.lock_run(task_id, worker_id, generation)
    if row is None:
        return False
    row.history.append(failure(worker_id, row.attempt, error, exception))
    ledger.end([row], State.DEAD, error)
    return True


@transaction.atomic
def task_terminated(task_id: UUID, *, worker_id: UUID, reason: str, generation: int | None = None) -> bool:
    """Discard a task whose revocation this worker has reported to Celery already; return whether it was one.

    It waits, or ran under this worker and was terminated. For `generation` see `recovery.task_lost`.
    """
    ledger = store()
    row = ledger.lock_run(task_id, worker_id, generation) or next(iter(ledger.lock([task_id], State.QUEUED)), None)
    if row is None:
        return False
    row.history.append(event("discarded", None, row.attempt, by="Celery", error=reason))
    ledger.end([row], State.DISCARDED, f"discarded by Celery: {reason}")
    return True


@transaction.atomic
def task_revoked(task_id: UUID, *, expired: bool = False) -> bool:
    """Discard a task that waits and that a worker found to be revoked or expired; return whether it was one.

    The row decides: what runs, has ended, or was revoked before by another worker stays as it is.
    """
    rows = store().lock([task_id], State.QUEUED)
    _discard_waiting(rows, expired=expired)
    return bool(rows)


@transaction.atomic
def tasks_expire(*, limit: int = 1000) -> int:
    """Discard what nobody started in time; return how many."""
    rows = store().expire(limit=limit)
    _discard_waiting(rows, expired=True)
    return len(rows)


@transaction.atomic
def task_deferred(
    task_id: UUID, *, error: str, worker_id: UUID | None = None, refused: bool = False
) -> DurableTask.State | None:
    """Publish a task later that this worker does not know, or whose message it refuses.

    A release may be rolling out. Once ten deliveries found no worker that takes it, it is a dead letter.
    """
    ledger = store()
    row = next(iter(ledger.lock([task_id], State.QUEUED)), None)
    if row is None:
        return None
    earlier = sum(1 for entry in row.history if entry["what"] in DEFERRED)
    row.history.append(event("refused" if refused else "unknown", worker_id, row.attempt, error=error))
    if earlier + 1 < UNKNOWN_DELIVERIES:
        ledger.queue([row], datetime.now(UTC) + unknown_delay(earlier))
        return State.QUEUED
    ledger.end([row], State.DEAD, error, announce=True)
    return State.DEAD


@transaction.atomic
def task_refused(task_id: UUID, *, error: str) -> bool:
    """Make a dead letter of a task whose message cannot be published."""
    ledger = store()
    row = next(iter(ledger.lock([task_id], State.QUEUED)), None)
    if row is None:
        return False
    row.history.append(event("refused", None, row.attempt, error=error))
    ledger.end([row], State.DEAD, error, announce=True)
    return True


def _discard_waiting(rows: Collection[DurableTask], *, expired: bool) -> None:
    for row in rows:
        row.history.append(event("expired" if expired else "revoked", None, row.attempt))
    store().end(rows, State.DISCARDED, "expired before it was started" if expired else "revoked", announce=True)
