"""What a person or a program may do with tasks that were sent: ask, requeue, discard, and move to another queue."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from uuid import UUID

from django.db import transaction
from kombu import Queue

from drumline.ledger.selectors import ledger_rows
from drumline.ledger.store import State, event, store
from drumline.message import Message, ledger_id
from drumline.models import Announcement, DurableTask

# Rows that one transaction locks.
CHUNK = 500


def status(task_id: str | UUID) -> DurableTask.State | None:
    """Return where a task stands by its Celery task id; None without a row, which a finished task has for a day."""
    found = ledger_rows().filter(id=ledger_id(str(task_id))).values_list("state", flat=True).first()
    return None if found is None else DurableTask.State(found)


def requeue(task_ids: Iterable[str | UUID | DurableTask], *, by: str) -> int:
    """Queue dead letters and discarded tasks again with all attempts before them; return how many it was.

    Their rows will do instead of their ids. `by` says who did it, and is kept in each task's history.
    """
    return sum(_requeue(chunk, by) for chunk in _chunks(task_ids))


@transaction.atomic
def _requeue(ids: list[UUID], by: str) -> int:
    ledger = store()
    rows = ledger.lock(ids, State.DEAD, State.DISCARDED)
    for row in rows:
        row.attempt, row.retries = 0, 0
        row.expires_at, row.finished_at, row.error, row.traceback = None, None, "", ""
        message = Message.loads(row.message)
        message.headers.update(expires=None, retries=0)
        message.properties.pop("expiration", None)
        row.message = message.dumps()
        row.history.append(event("requeued", None, row.attempt, by=by))
    ledger.queue(rows, datetime.now(UTC))
    Announcement.objects.filter(task_id__in=[row.id for row in rows]).delete()
    return len(rows)


def discard(task_ids: Iterable[str | UUID | DurableTask], *, by: str, reason: str) -> int:
    """Discard tasks that wait or are dead letters; return how many it was. A running task is not stopped.

    Their rows will do instead of their ids. `by` and `reason` are kept in each task's history.
    """
    return sum(_discard(chunk, reason, by) for chunk in _chunks(task_ids))


@transaction.atomic
def _discard(ids: list[UUID], reason: str, by: str) -> int:
    ledger = store()
    rows = ledger.lock(ids, State.QUEUED, State.DEAD)
    for row in rows:
        row.history.append(event("discarded", None, row.attempt, by=by, error=reason))
    dead = [row for row in rows if row.state == State.DEAD]
    waiting = [row for row in rows if row.state != State.DEAD]
    error = f"discarded by {by}: {reason}"
    # That a dead letter failed is known already.
    ledger.end(dead, State.DISCARDED, error)
    ledger.end(waiting, State.DISCARDED, error, announce=True)
    return len(rows)


def move(source: str, target: Queue, *, by: str) -> int:
    """Send what waits in a queue through another one; return how many tasks it was.

    What the broker still holds of the first queue starts nothing twice: a task runs when its row is claimed.
    """
    waiting = ledger_rows().filter(state=State.QUEUED, queue=source).values_list("id", flat=True)
    return sum(_move(chunk, target, by) for chunk in _chunks(list(waiting)))


@transaction.atomic
def _move(ids: list[UUID], target: Queue, by: str) -> int:
    ledger = store()
    rows = ledger.lock(ids, State.QUEUED)
    exchange, key = target.exchange.name, target.routing_key
    for row in rows:
        row.history.append(event("moved", None, row.attempt, by=by, error=f"from queue {row.queue}"))
        row.queue = target.name
        row.message = replace(Message.loads(row.message), queue=target.name, exchange=exchange, routing_key=key).dumps()
    ledger.republish(rows)
    return len(rows)


def _chunks(task_ids: Iterable[str | UUID | DurableTask]) -> Iterator[list[UUID]]:
    """Yield as many as one transaction may lock."""
    # The characters of a string would be taken for ids, of which there are no rows.
    if isinstance(task_ids, (str, UUID)):
        raise TypeError(f"{task_ids!r} is one id. Use a list of ids: [{task_ids!r}]")
    if isinstance(task_ids, DurableTask):
        raise TypeError(f"{task_ids!r} is one task. Use a list of tasks, or of their ids: [{str(task_ids.id)!r}]")
    remaining = (task.id if isinstance(task, DurableTask) else ledger_id(task) for task in task_ids)
    while chunk := list(islice(remaining, CHUNK)):
        yield chunk
