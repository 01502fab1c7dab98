"""What happens to a row besides the claim and the close of an ordinary run."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TypeVar
from uuid import UUID

from django.db import connection, models, transaction
from kombu import Queue

from drumline import conf, storable
from drumline.ledger.statements import event, failure
from drumline.logs import get_logger
from drumline.message import Message
from drumline.models import Announcement, DurableTask, Worker

logger = get_logger(__name__)

State = DurableTask.State
M = TypeVar("M", bound=models.Model)

CHANNEL = "drumline_ledger"
# Rows that one transaction locks.
CHUNK = 500
# A task that no worker knows: a release is rolling out, or its code is gone.
UNKNOWN_FIRST_DELAY = timedelta(seconds=5)
UNKNOWN_DELIVERIES = 10
DEFERRED = {"unknown", "refused"}


def wake() -> None:
    """Make every relay look now, or once the current transaction is committed."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(f"NOTIFY {CHANNEL}")


def tasks_requeue(ids: Iterable[UUID], *, by: str) -> int:
    """Queue dead letters and discarded tasks again, with all attempts before them; return how many."""
    return sum(_requeue(chunk, by) for chunk in _chunks(ids))


@transaction.atomic
def _requeue(ids: list[UUID], by: str) -> int:
    rows = _locked(ids, State.DEAD, State.DISCARDED)
    for row in rows:
        _queue(row, datetime.now(UTC))
        row.attempt, row.retries = 0, 0
        row.expires_at, row.finished_at, row.error, row.traceback = None, None, "", ""
        message = Message.loads(row.message)
        message.headers.update(expires=None, retries=0)
        message.properties.pop("expiration", None)
        row.message = message.dumps()
        row.history.append(event("requeued", None, row.attempt, by=by))
        row.save()
    Announcement.objects.filter(task_id__in=[row.id for row in rows]).delete()
    wake()
    return len(rows)


def tasks_move(source: str, target: Queue, *, by: str) -> int:
    """Send what waits in a queue through another one; return how many tasks it was.

    What the broker still holds of the first queue starts nothing twice: a task runs when its row is claimed.
    """
    waiting = DurableTask.objects.filter(state=State.QUEUED, queue=source).values_list("id", flat=True)
    return sum(_move(chunk, target, by) for chunk in _chunks(list(waiting)))


@transaction.atomic
def _move(ids: list[UUID], target: Queue, by: str) -> int:
    rows = _locked(ids, State.QUEUED)
    for row in rows:
        row.history.append(event("moved", None, row.attempt, by=by, error=f"from queue {row.queue}"))
        row.queue, row.published_at = target.name, None
        exchange, key = target.exchange.name, target.routing_key
        row.message = replace(Message.loads(row.message), queue=target.name, exchange=exchange, routing_key=key).dumps()
        row.save()
    wake()
    return len(rows)


def tasks_discard(ids: Iterable[UUID], *, reason: str, by: str) -> int:
    """Give up tasks that wait or are dead letters; return how many. What runs is not stopped."""
    return sum(_discard(chunk, reason, by) for chunk in _chunks(ids))


@transaction.atomic
def _discard(ids: list[UUID], reason: str, by: str) -> int:
    rows = _locked(ids, State.QUEUED, State.DEAD)
    # That a dead letter failed is known already.
    unknown = [row for row in rows if row.state == State.QUEUED]
    for row in rows:
        _discard_row(row, reason, by)
    _announce(unknown)
    return len(rows)


@transaction.atomic
def task_revoked(task_id: UUID, *, expired: bool = False) -> bool:
    """Discard a task that waits and that a worker found to be revoked or expired; return whether it was one.

    The row decides: what runs, has ended, or was revoked before by another worker stays as it is.
    """
    row = next(iter(_locked([task_id], State.QUEUED)), None)
    if row is None:
        return False
    _discard_waiting([row], expired=expired)
    return True


@transaction.atomic
def task_terminated(task_id: UUID, *, worker_id: UUID, reason: str, generation: int | None = None) -> bool:
    """Discard a task whose revocation this worker has reported to Celery already; return whether it was one.

    It waits, or ran under this worker and was terminated. For `generation` see `task_lost`.
    """
    row = _running(task_id, worker_id, generation) or next(iter(_locked([task_id], State.QUEUED)), None)
    if row is None:
        return False
    _discard_row(row, reason, "Celery")
    return True


def task_lost(
    task_id: UUID, *, worker_id: UUID, error: str, counted: bool = True, generation: int | None = None
) -> DurableTask.State | None:
    """Take a task back whose process died: it is queued again, or a dead letter after its last attempt.

    An attempt that is not `counted` was ended by whoever stopped the worker, and the task gets another one for it.
    `generation` is that of the run that ended, by its message: a task that replaced itself may run here already.
    Return where it stands now, or None when it did not run under this worker.
    """
    with transaction.atomic():
        row = _running(task_id, worker_id, generation)
        if row is None:
            return None
        row.history.append(event("lost", worker_id, row.attempt, error=error))
        row.max_attempts += not counted
        if row.attempt - row.retries < row.max_attempts:
            _queue(row, datetime.now(UTC))
            row.save()
            wake()
            return State.QUEUED
        error = f"{error} (attempt {row.attempt}, the last one)"
        _end(row, State.DEAD, error)
        _announce([row])
    return State.DEAD


@transaction.atomic
def task_failed(
    task_id: UUID, *, worker_id: UUID, error: str, exception: str = "", generation: int | None = None
) -> bool:
    """Make a dead letter of a task whose process could not do it, as at the hard time limit.

    `exception` is the import path of a class that says what happened. See `task_lost`.
    """
    row = _running(task_id, worker_id, generation)
    if row is None:
        return False
    row.history.append(failure(worker_id, row.attempt, error, exception))
    _end(row, State.DEAD, error)
    return True


@transaction.atomic
def task_deferred(
    task_id: UUID, *, error: str, worker_id: UUID | None = None, refused: bool = False
) -> DurableTask.State | None:
    """Publish a task later that this worker does not know, or whose message it refuses.

    A release may be rolling out. Once ten deliveries found no worker that takes it, it is a dead letter.
    """
    row = next(iter(_locked([task_id], State.QUEUED)), None)
    if row is None:
        return None
    earlier = sum(1 for entry in row.history if entry["what"] in DEFERRED)
    row.history.append(event("refused" if refused else "unknown", worker_id, row.attempt, error=error))
    if earlier + 1 < UNKNOWN_DELIVERIES:
        _queue(row, datetime.now(UTC) + UNKNOWN_FIRST_DELAY * min(2**earlier, 60))
        row.save()
        wake()
        return State.QUEUED
    _end(row, State.DEAD, error)
    _announce([row])
    return State.DEAD


@transaction.atomic
def task_refused(task_id: UUID, *, error: str) -> bool:
    """Make a dead letter of a task whose message cannot be published."""
    row = next(iter(_locked([task_id], State.QUEUED)), None)
    if row is None:
        return False
    row.history.append(event("refused", None, row.attempt, error=error))
    _end(row, State.DEAD, error)
    _announce([row])
    return True


def worker_release(worker_id: UUID, *, error: str, counted: bool = True) -> int:
    """Take back everything that a worker's life still holds; return how much it was. See `task_lost`."""
    held = DurableTask.objects.filter(worker_id=worker_id, state=State.RUNNING).values_list("id", flat=True)
    return sum(
        task_lost(task_id, worker_id=worker_id, error=error, counted=counted) is not None for task_id in list(held)
    )


@transaction.atomic
def tasks_expire(*, limit: int = 1000) -> int:
    """Discard what nobody started in time; return how many."""
    rows = skipping_locked(DurableTask.objects.filter(state=State.QUEUED, expires_at__lte=datetime.now(UTC)))[:limit]
    _discard_waiting(rows, expired=True)
    return len(rows)


def finished_purge(*, limit: int = 1000) -> int:
    """Delete finished and discarded rows that were kept long enough; return how many."""
    before = _kept_since()
    with transaction.atomic():
        ended = DurableTask.objects.filter(state__in=(State.FINISHED, State.DISCARDED), finished_at__lte=before)
        ids = list(skipping_locked(ended).order_by("finished_at").values_list("id", flat=True)[:limit])
        return DurableTask.objects.filter(id__in=ids).delete()[0] if ids else 0


def workers_purge() -> None:
    """Forget the workers that ended as long ago."""
    Worker.objects.filter(stopped_at__lte=_kept_since()).delete()


def _kept_since() -> datetime:
    return datetime.now(UTC) - timedelta(seconds=conf.keep_finished())


def _chunks(ids: Iterable[UUID]) -> Iterator[list[UUID]]:
    """Yield as many as one transaction may lock."""
    remaining = iter(ids)
    while chunk := list(islice(remaining, CHUNK)):
        yield chunk


def _locked(ids: Iterable[UUID], *states: DurableTask.State) -> list[DurableTask]:
    return list(DurableTask.objects.select_for_update().filter(id__in=list(ids), state__in=states).order_by("id"))


def _running(task_id: UUID, worker_id: UUID, generation: int | None) -> DurableTask | None:
    rows = DurableTask.objects.select_for_update().filter(id=task_id, worker_id=worker_id, state=State.RUNNING)
    return (rows if generation is None else rows.filter(generation=generation)).first()


def skipping_locked(rows: models.QuerySet[M]) -> models.QuerySet[M]:
    """Return the rows to be locked, without those that another process has locked, where the database can skip them."""
    return rows.select_for_update(skip_locked=connection.features.has_select_for_update_skip_locked)


def _queue(row: DurableTask, due_at: datetime) -> None:
    row.state, row.published_at, row.due_at, row.worker_id = State.QUEUED, None, due_at, None


def _end(row: DurableTask, state: DurableTask.State, error: str) -> None:
    row.state, row.finished_at, row.error = state, datetime.now(UTC), storable.text(error)
    row.save()


def _discard_row(row: DurableTask, reason: str, by: str) -> None:
    row.history.append(event("discarded", None, row.attempt, by=by, error=reason))
    _end(row, State.DISCARDED, f"discarded by {by}: {reason}")


def _discard_waiting(rows: Collection[DurableTask], *, expired: bool) -> None:
    for row in rows:
        row.history.append(event("expired" if expired else "revoked", None, row.attempt))
        _end(row, State.DISCARDED, "expired before it was started" if expired else "revoked")
    _announce(rows)


def _announce(rows: Iterable[DurableTask]) -> None:
    """Leave it to the relay to make these ends known to Celery; see `drumline.relay.announcements`."""
    ends = [Announcement(task_id=row.id) for row in rows]
    if ends:
        Announcement.objects.bulk_create(ends, ignore_conflicts=True)
        wake()
