"""The statements that every task costs, as cheap as they can be.

PostgreSQL gets a connection of its own for them: no transaction, no waiting for the disk, one round trip each, and
plans that always use the key. Any other database (SQLite in development) goes through Django's connection.
"""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from uuid import UUID

from django.db import connection
from django.db.models import F, Q
from django.db.models.functions import Now

from drumline import storable
from drumline.ledger.pooling import is_pooled
from drumline.message import Message
from drumline.models import Announcement, DurableTask

if TYPE_CHECKING:
    import psycopg

State = DurableTask.State

# Characters of a traceback that are kept, and of an error in a row's history, which has many.
TRACEBACK_LIMIT = 100_000
HISTORY_LIMIT = 2_000


class RunKey(NamedTuple):
    """Names one run of one task. `run` never repeats for a row; `attempt` begins again when the task is replaced."""

    task_id: UUID
    run: int
    attempt: int


FINISH = """UPDATE drumline_ledger AS task SET state = 2, finished_at = clock_timestamp()
    FROM unnest(%s::uuid[], %s::int[]) AS done (id, run)
    WHERE task.id = done.id AND task.run = done.run AND task.state = 1 AND task.worker_id = %s"""
# An early message may ring for a row that was published again later; the relay must not take what was sent in between
# for overtaken, so the row remembers the message that really rang.
CLAIM = """UPDATE drumline_ledger
    SET state = 1, worker_id = %s, run = run + 1, attempt = attempt + 1, started_at = clock_timestamp(),
        published_at = LEAST(published_at, to_timestamp(%s))
    WHERE id = %s AND state = 0 AND due_at <= clock_timestamp() RETURNING id, run, attempt"""
FINISH_AND_CLAIM = f"WITH finished AS ({FINISH}) {CLAIM}"
MINE = "WHERE id = %s AND run = %s AND state = 1 AND worker_id = %s"
SUCCEED = f"UPDATE drumline_ledger SET state = 2, finished_at = clock_timestamp(), result = %s {MINE}"  # noqa: S608
FAIL = f"""UPDATE drumline_ledger
    SET state = 3, finished_at = clock_timestamp(), error = %s, traceback = %s, history = history || %s::jsonb {MINE}"""  # noqa: S608
FAIL_AND_ANNOUNCE = f"""WITH ended AS ({FAIL} RETURNING id)
    INSERT INTO drumline_announcement (task_id) SELECT id FROM ended ON CONFLICT DO NOTHING"""  # noqa: S608
# A task that replaced itself is another task, with all its attempts before it.
REQUEUE = f"""UPDATE drumline_ledger
    SET state = 0, published_at = NULL, name = %s, queue = %s, priority = %s, message = %s, expires_at = %s,
        due_at = COALESCE(%s, clock_timestamp()), retries = %s, generation = %s,
        attempt = CASE WHEN generation < %s THEN 0 ELSE attempt END, history = history || %s::jsonb {MINE}"""  # noqa: S608
GIVE_BACK = f"UPDATE drumline_ledger SET state = 0, attempt = attempt - 1, published_at = clock_timestamp() {MINE}"  # noqa: S608


class Statements(Protocol):
    """What a process that runs tasks asks of the database; all but `claim` need the run to be still this worker's."""

    def claim(self, task_id: UUID, published: float, worker_id: UUID, finished: Sequence[RunKey]) -> RunKey | None:
        """Close what is finished and take the row; return the run's key, or None without the row."""

    def finish(self, worker_id: UUID, finished: Sequence[RunKey]) -> None:
        """Close what is finished."""

    def succeed(self, worker_id: UUID, run: RunKey, result: str) -> None:
        """Close it with what it returned, as JSON in ASCII."""

    def fail(  # noqa: PLR0913  all that is known of a failure
        self, worker_id: UUID, run: RunKey, error: str, traceback: str, *, exception: str = "", announce: bool = False
    ) -> None:
        """Make it a dead letter, which the relay is to `announce` to Celery if Celery does not know of it.

        `exception` is the import path of the error's class, where a reader of the history needs it.
        """

    def requeue(self, worker_id: UUID, run: RunKey, message: Message, why: str) -> None:
        """Put another message in its place, to be published by the relay when it is due."""

    def give_back(self, worker_id: UUID, run: RunKey) -> None:
        """Undo the claim: the broker delivers the same message again."""

    def reconnect(self) -> None:
        """Forget the connection after an error."""


def statements() -> Statements:
    """Return the statements for Django's default database."""
    return PostgreSQLStatements() if connection.vendor == "postgresql" else PortableStatements()


def event(what: str, worker_id: UUID | None, attempt: int, **more: Any) -> dict[str, Any]:
    """Return one entry of a row's history, fit for jsonb."""
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    kept = {name: storable.text(value, limit=HISTORY_LIMIT) for name, value in more.items()}
    return {"at": at, "what": what, "attempt": attempt, "worker": str(worker_id) if worker_id else "", **kept}


def failure(worker_id: UUID | None, attempt: int, error: str, exception: str = "") -> dict[str, Any]:
    """Return the entry of a run that failed, with the import path of the exception's class where it is known."""
    return event("failed", worker_id, attempt, error=error, **({"exception": exception} if exception else {}))


class PostgreSQLStatements:
    """Prepared statements on a connection of their own; behind a pooler whole ones, each with its setting."""

    # Losing one of these commits means a rerun, never a loss. A plan made while the table was small must not read all
    # of it when it is large.
    OPTIONS = "-c synchronous_commit=off -c enable_seqscan=off -c enable_hashjoin=off -c enable_mergejoin=off"

    # In one message with the statement, whose transaction they share. Its plan is made for its values.
    POOLED = "SET LOCAL synchronous_commit = off; "

    def __init__(self) -> None:
        self._connection: psycopg.Connection[Any] | None = None
        self._pooled = False

    def _connect(self) -> "psycopg.Connection[Any]":
        self._pooled = is_pooled()
        driver = import_module("psycopg")
        params = connection.get_connection_params() | {"autocommit": True}
        if self._pooled:
            # Only a message without parameters holds several statements.
            shared: psycopg.Connection[Any] = driver.connect(
                **params | {"cursor_factory": driver.ClientCursor, "prepare_threshold": None}
            )
            return shared
        options = f"{params.get('options', '')} {self.OPTIONS}".strip()
        own: psycopg.Connection[Any] = driver.connect(
            **params | {"options": options, "cursor_factory": driver.Cursor, "prepare_threshold": 1}
        )
        return own

    def _execute(self, statement: str, *values: Any) -> "psycopg.Cursor[Any]":
        with connection.wrap_database_errors:
            if self._connection is None:
                self._connection = self._connect()
            if not self._pooled:
                return self._connection.execute(statement, values)
            cursor = self._connection.execute(self.POOLED + statement, values)
            cursor.nextset()
            return cursor

    def claim(self, task_id: UUID, published: float, worker_id: UUID, finished: Sequence[RunKey]) -> RunKey | None:
        """See `Statements`."""
        if finished:
            cursor = self._execute(FINISH_AND_CLAIM, *_columns(finished), worker_id, worker_id, published, task_id)
        else:
            cursor = self._execute(CLAIM, worker_id, published, task_id)
        row = cursor.fetchone()
        return RunKey(*row) if row else None

    def finish(self, worker_id: UUID, finished: Sequence[RunKey]) -> None:
        """See `Statements`."""
        self._execute(FINISH, *_columns(finished), worker_id)

    def succeed(self, worker_id: UUID, run: RunKey, result: str) -> None:
        """See `Statements`."""
        self._execute(SUCCEED, result, run.task_id, run.run, worker_id)

    def fail(  # noqa: PLR0913  all that is known of a failure
        self, worker_id: UUID, run: RunKey, error: str, traceback: str, *, exception: str = "", announce: bool = False
    ) -> None:
        """See `Statements`."""
        history = json.dumps([failure(worker_id, run.attempt, error, exception)])
        kept = storable.text(error), storable.text(traceback, limit=TRACEBACK_LIMIT)
        statement = FAIL_AND_ANNOUNCE if announce else FAIL
        self._execute(statement, *kept, history, run.task_id, run.run, worker_id)
        if announce:
            self._execute("NOTIFY drumline_ledger")

    def requeue(self, worker_id: UUID, run: RunKey, message: Message, why: str) -> None:
        """See `Statements`."""
        row = message.columns()
        self._execute(
            REQUEUE,
            *(row["name"], row["queue"], row["priority"], row["message"], row["expires_at"], message.due_at),
            *(row["retries"], row["generation"], row["generation"], json.dumps([event(why, worker_id, run.attempt)])),
            *(run.task_id, run.run, worker_id),
        )
        self._execute("NOTIFY drumline_ledger")

    def give_back(self, worker_id: UUID, run: RunKey) -> None:
        """See `Statements`."""
        self._execute(GIVE_BACK, run.task_id, run.run, worker_id)

    def reconnect(self) -> None:
        """See `Statements`."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _columns(runs: Sequence[RunKey]) -> tuple[list[UUID], list[int]]:
    return [run.task_id for run in runs], [run.run for run in runs]


class PortableStatements:
    """The same through Django, for a database with a single writer."""

    def claim(self, task_id: UUID, published: float, worker_id: UUID, finished: Sequence[RunKey]) -> RunKey | None:
        """See `Statements`."""
        self.finish(worker_id, finished)
        row = DurableTask.objects.filter(id=task_id, state=State.QUEUED, due_at__lte=datetime.now(UTC))
        started = {"run": F("run") + 1, "attempt": F("attempt") + 1, "started_at": Now()}
        if not row.update(state=State.RUNNING, worker_id=worker_id, **started):
            return None
        return RunKey(*DurableTask.objects.values_list("id", "run", "attempt").get(id=task_id))

    def finish(self, worker_id: UUID, finished: Sequence[RunKey]) -> None:
        """See `Statements`."""
        for run in finished:
            _mine(worker_id, run).update(state=State.FINISHED, finished_at=Now())

    def succeed(self, worker_id: UUID, run: RunKey, result: str) -> None:
        """See `Statements`."""
        _mine(worker_id, run).update(state=State.FINISHED, finished_at=Now(), result=result)

    def fail(  # noqa: PLR0913  all that is known of a failure
        self, worker_id: UUID, run: RunKey, error: str, traceback: str, *, exception: str = "", announce: bool = False
    ) -> None:
        """See `Statements`."""
        for row in _mine(worker_id, run):
            row.state, row.finished_at = State.DEAD, datetime.now(UTC)
            row.error, row.traceback = storable.text(error), storable.text(traceback, limit=TRACEBACK_LIMIT)
            row.history.append(failure(worker_id, run.attempt, error, exception))
            row.save()
            if announce:
                Announcement.objects.get_or_create(task_id=row.id)

    def requeue(self, worker_id: UUID, run: RunKey, message: Message, why: str) -> None:
        """See `Statements`."""
        for row in _mine(worker_id, run):
            if row.generation < message.generation:
                row.attempt = 0
            for name, value in message.columns().items():
                setattr(row, name, value)
            row.state, row.published_at, row.due_at = State.QUEUED, None, message.due_at or datetime.now(UTC)
            row.history.append(event(why, worker_id, run.attempt))
            row.save()

    def give_back(self, worker_id: UUID, run: RunKey) -> None:
        """See `Statements`."""
        _mine(worker_id, run).update(state=State.QUEUED, attempt=F("attempt") - 1, published_at=Now())

    def reconnect(self) -> None:
        """See `Statements`."""
        connection.close()


def _mine(worker_id: UUID, run: RunKey) -> Any:
    return DurableTask.objects.filter(Q(id=run.task_id, run=run.run, worker_id=worker_id, state=State.RUNNING))
