"""The store through Django's connection: all that a database with a single writer needs."""

from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.db.models import DateTimeField, F, QuerySet, Value
from django.db.models.functions import Coalesce, Least, Now

from drumline import storable
from drumline.ledger.locking import skipping_locked
from drumline.ledger.store import TRACEBACK_LIMIT, RunKey, Store, event, failure
from drumline.message import Message
from drumline.models import Announcement, DurableTask

State = DurableTask.State

COLUMNS = """id, name, queue, priority, message, created_at, due_at, expires_at, published_at, retries, max_attempts,
    generation, parent_id, root_id, state, run, attempt, error, traceback, history"""
# A task that replaces itself (Task.replace) comes again under its own id; every other second time is the same task.
REPLACE = """ON CONFLICT (id) DO UPDATE SET name = excluded.name, queue = excluded.queue, priority = excluded.priority,
    message = excluded.message, state = 0, due_at = excluded.due_at, expires_at = excluded.expires_at,
    published_at = excluded.published_at, retries = excluded.retries, max_attempts = excluded.max_attempts,
    generation = excluded.generation, attempt = 0, result = NULL
    WHERE drumline_ledger.generation < excluded.generation"""


class PortableStore(Store):
    """See `Store`."""

    def insert(self, rows: Sequence[dict[str, Any]]) -> set[UUID]:
        """See `Store`."""
        now = datetime.now(UTC)
        names = [name.strip() for name in COLUMNS.split(",")]
        fields: list[Any] = [DurableTask._meta.get_field(name) for name in names]  # noqa: SLF001  documented API
        places = ", ".join(["%s"] * len(names))
        statement = f"INSERT INTO drumline_ledger ({COLUMNS}) VALUES ({places}) {REPLACE}"  # noqa: S608  constants only
        written = set()
        with connection.cursor() as cursor:
            for row in rows:
                values = {
                    **{field.name: field.get_default() for field in fields},
                    **row,
                    "created_at": now,
                    "due_at": row["due_at"] or now,
                    "published_at": now if row["published"] else None,
                }
                cursor.execute(statement, [field.get_db_prep_value(values[field.name], connection) for field in fields])
                if cursor.rowcount:
                    written.add(row["id"])
        return written

    def mark_published(self, ids: Collection[UUID]) -> None:
        """See `Store`."""
        DurableTask.objects.filter(id__in=ids).update(published_at=Now())

    def mark_unpublished(self, ids: Collection[UUID]) -> int:
        """See `Store`."""
        if not ids:
            return 0
        return DurableTask.objects.filter(id__in=ids, state=State.QUEUED).update(published_at=None)

    def wake(self) -> None:
        """See `Store`; a relay looks once a second by itself."""

    def claim(self, task_id: UUID, published: float, worker_id: UUID, finished: Sequence[RunKey]) -> RunKey | None:
        """See `Store`."""
        self.finish(worker_id, finished)
        row = DurableTask.objects.filter(id=task_id, state=State.QUEUED, due_at__lte=datetime.now(UTC))
        rang = Value(datetime.fromtimestamp(published, UTC), DateTimeField())
        started = {"run": F("run") + 1, "attempt": F("attempt") + 1, "started_at": Now()}
        # SQLite takes NULL for the least.
        started["published_at"] = Least(Coalesce(F("published_at"), rang), rang)
        if not row.update(state=State.RUNNING, worker_id=worker_id, **started):
            return None
        return RunKey(*DurableTask.objects.values_list("id", "run", "attempt").get(id=task_id))

    def finish(self, worker_id: UUID, finished: Sequence[RunKey]) -> None:
        """See `Store`."""
        for run in finished:
            _mine(worker_id, run).update(state=State.FINISHED, finished_at=Now())

    def succeed(self, worker_id: UUID, run: RunKey, result: str) -> None:
        """See `Store`."""
        _mine(worker_id, run).update(state=State.FINISHED, finished_at=Now(), result=result)

    def fail(  # noqa: PLR0913  all that is known of a failure
        self, worker_id: UUID, run: RunKey, error: str, traceback: str, *, exception: str = "", announce: bool = False
    ) -> None:
        """See `Store`."""
        for row in _mine(worker_id, run):
            row.traceback = storable.text(traceback, limit=TRACEBACK_LIMIT)
            row.history.append(failure(worker_id, run.attempt, error, exception))
            self.end([row], State.DEAD, error, announce=announce)

    def requeue(self, worker_id: UUID, run: RunKey, message: Message, why: str) -> None:
        """See `Store`."""
        for row in _mine(worker_id, run):
            if row.generation < message.generation:
                row.attempt = 0
            for name, value in message.columns().items():
                setattr(row, name, value)
            row.state, row.published_at, row.due_at = State.QUEUED, None, message.due_at or datetime.now(UTC)
            row.history.append(event(why, worker_id, run.attempt))
            row.save()

    def give_back(self, worker_id: UUID, run: RunKey) -> None:
        """See `Store`."""
        _mine(worker_id, run).update(state=State.QUEUED, attempt=F("attempt") - 1, published_at=Now())

    def reconnect(self) -> None:
        """See `Store`."""
        connection.close()

    def lock(self, ids: Iterable[UUID], *states: DurableTask.State) -> list[DurableTask]:
        """See `Store`."""
        return list(DurableTask.objects.select_for_update().filter(id__in=list(ids), state__in=states).order_by("id"))

    def lock_run(self, task_id: UUID, worker_id: UUID, generation: int | None = None) -> DurableTask | None:
        """See `Store`."""
        rows = DurableTask.objects.select_for_update().filter(id=task_id, worker_id=worker_id, state=State.RUNNING)
        return (rows if generation is None else rows.filter(generation=generation)).first()

    def queue(self, rows: Collection[DurableTask], due_at: datetime) -> None:
        """See `Store`."""
        for row in rows:
            row.state, row.published_at, row.due_at, row.worker_id = State.QUEUED, None, due_at, None
            row.save()
        self.wake()

    def republish(self, rows: Collection[DurableTask]) -> None:
        """See `Store`."""
        for row in rows:
            row.published_at = None
            row.save()
        self.wake()

    def end(
        self, rows: Collection[DurableTask], state: DurableTask.State, error: str, *, announce: bool = False
    ) -> None:
        """See `Store`."""
        for row in rows:
            row.state, row.finished_at, row.error = state, datetime.now(UTC), storable.text(error)
            row.save()
        if announce and rows:
            Announcement.objects.bulk_create([Announcement(task_id=row.id) for row in rows], ignore_conflicts=True)
            self.wake()

    def expire(self, *, limit: int) -> list[DurableTask]:
        """See `Store`."""
        late = DurableTask.objects.filter(state=State.QUEUED, expires_at__lte=datetime.now(UTC))
        return list(skipping_locked(late)[:limit])

    def purge(self, *, before: datetime, limit: int) -> int:
        """See `Store`."""
        with transaction.atomic():
            ended = DurableTask.objects.filter(state__in=(State.FINISHED, State.DISCARDED), finished_at__lte=before)
            ids = list(skipping_locked(ended).order_by("finished_at").values_list("id", flat=True)[:limit])
            return DurableTask.objects.filter(id__in=ids).delete()[0] if ids else 0

    def finished_estimate(self) -> int | None:
        """See `Store`."""
        return DurableTask.objects.filter(state__in=(State.FINISHED, State.DISCARDED)).count()


def _mine(worker_id: UUID, run: RunKey) -> QuerySet[DurableTask]:
    return DurableTask.objects.filter(id=run.task_id, run=run.run, worker_id=worker_id, state=State.RUNNING)
