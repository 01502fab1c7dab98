"""The store by the statements of PostgreSQL: one round trip for each step of a task's ordinary life.

What happens seldom goes through Django, as on every other database.
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
from django.db import IntegrityError, connection, transaction

from drumline import storable
from drumline.ledger.pooling import is_pooled
from drumline.ledger.portable import COLUMNS, REPLACE, PortableStore
from drumline.ledger.store import CHANNEL, TRACEBACK_LIMIT, RunKey, event, failure
from drumline.message import Message

WAKE = f"NOTIFY {CHANNEL}"
# One document instead of thirteen arrays: psycopg writes arrays in Python, element by element. A message is text within
# it: as a part of it, the server would decode what no text of PostgreSQL can hold.
INSERT = f"""INSERT INTO drumline_ledger ({COLUMNS})
    SELECT id, name, queue, priority, message, statement_timestamp(), COALESCE(due_at, statement_timestamp()),
        expires_at, CASE WHEN published THEN statement_timestamp() END, retries, max_attempts, generation,
        parent_id, root_id, 0, 0, 0, '', '', '[]'
    FROM json_to_recordset(%s::json) AS row (id uuid, name text, queue text, priority smallint, message text,
        due_at timestamptz, expires_at timestamptz, published boolean, retries int, max_attempts int,
        generation smallint, parent_id text, root_id text)
    {REPLACE} RETURNING id"""  # noqa: S608  constants only
# The server takes a single row in two thirds of the time so.
INSERT_ONE = f"""INSERT INTO drumline_ledger ({COLUMNS})
    VALUES (%(id)s, %(name)s, %(queue)s, %(priority)s, %(message)s, statement_timestamp(),
        COALESCE(%(due_at)s, statement_timestamp()), %(expires_at)s,
        CASE WHEN %(published)s THEN statement_timestamp() END, %(retries)s, %(max_attempts)s, %(generation)s,
        %(parent_id)s, %(root_id)s, 0, 0, 0, '', '', '[]')
    {REPLACE} RETURNING id"""  # noqa: S608  constants only
# Costs sender and server half of what the document does, but takes five round trips and knows no conflict.
COPY = f"COPY drumline_ledger ({COLUMNS}) FROM STDIN"
COPIED_FROM = 200
FINISH = """UPDATE drumline_ledger AS task SET state = 2, finished_at = clock_timestamp()
    FROM unnest(%s::uuid[], %s::int[]) AS done (id, run)
    WHERE task.id = done.id AND task.run = done.run AND task.state = 1 AND task.worker_id = %s"""
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
# By where the rows are: their keys are all over an index that grows with the ledger.
PURGE = """DELETE FROM drumline_ledger WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM drumline_ledger WHERE state IN (2, 4) AND finished_at <= %s
    ORDER BY finished_at LIMIT %s FOR UPDATE SKIP LOCKED))"""


class PostgreSQLStore(PortableStore):
    """See `Store`. Claims and closes have a connection of their own: no transaction, no waiting for the disk.

    They are prepared there, with plans that always use the key; behind a pooler they are whole statements, each with its
    setting.
    """

    # Losing one of these commits means a rerun, never a loss. A plan made while the table was small must not read all
    # of it when it is large.
    OPTIONS = "-c synchronous_commit=off -c enable_seqscan=off -c enable_hashjoin=off -c enable_mergejoin=off"

    # In one message with the statement, whose transaction they share. Its plan is made for its values.
    POOLED = "SET LOCAL synchronous_commit = off; "

    def __init__(self) -> None:
        self._connection: psycopg.Connection[Any] | None = None
        self._pooled = False

    def _connect(self) -> psycopg.Connection[Any]:
        self._pooled = is_pooled()
        params = connection.get_connection_params() | {"autocommit": True}
        if self._pooled:
            # Only a message without parameters holds several statements.
            return psycopg.connect(**params | {"cursor_factory": psycopg.ClientCursor, "prepare_threshold": None})
        options = f"{params.get('options', '')} {self.OPTIONS}".strip()
        return psycopg.connect(
            **params | {"options": options, "cursor_factory": psycopg.Cursor, "prepare_threshold": 1}
        )

    def _execute(self, statement: str, *values: Any) -> psycopg.Cursor[Any]:
        with connection.wrap_database_errors:
            if self._connection is None:
                self._connection = self._connect()
            if not self._pooled:
                return self._connection.execute(statement, values)
            cursor = self._connection.execute(self.POOLED + statement, values)
            cursor.nextset()
            return cursor

    def insert(self, rows: Sequence[dict[str, Any]]) -> set[UUID]:
        """See `Store`."""
        if len(rows) >= COPIED_FROM:
            with suppress(IntegrityError):
                return self._copy(rows)
        with connection.cursor() as cursor:
            if len(rows) == 1:
                cursor.execute(INSERT_ONE, rows[0])
            else:
                cursor.execute(INSERT, [json.dumps(rows, default=str)])
            if cursor.rowcount == len(rows):
                return {row["id"] for row in rows}
            return {task_id for (task_id,) in cursor.fetchall()}

    def _copy(self, rows: Sequence[dict[str, Any]]) -> set[UUID]:
        """Write rows, none of which may be there; raise IntegrityError, and write none, if one is."""
        with transaction.atomic(), connection.cursor() as cursor, connection.wrap_database_errors:
            # By the clock of the server, as text: without time zones Django would drop the offset.
            cursor.execute("SELECT statement_timestamp()::text")
            now = cursor.fetchone()[0]
            with cursor.copy(COPY) as copy:
                for row in rows:
                    told = row["id"], row["name"], row["queue"], row["priority"], row["message"]
                    times = now, row["due_at"] or now, row["expires_at"], now if row["published"] else None
                    counts = row["retries"], row["max_attempts"], row["generation"]
                    copy.write_row((*told, *times, *counts, row["parent_id"], row["root_id"], 0, 0, 0, "", "", "[]"))
        return {row["id"] for row in rows}

    def wake(self) -> None:
        """See `Store`."""
        with connection.cursor() as cursor:
            cursor.execute(WAKE)

    def claim(self, task_id: UUID, published: float, worker_id: UUID, finished: Sequence[RunKey]) -> RunKey | None:
        """See `Store`."""
        if finished:
            cursor = self._execute(FINISH_AND_CLAIM, *_columns(finished), worker_id, worker_id, published, task_id)
        else:
            cursor = self._execute(CLAIM, worker_id, published, task_id)
        row = cursor.fetchone()
        return RunKey(*row) if row else None

    def finish(self, worker_id: UUID, finished: Sequence[RunKey]) -> None:
        """See `Store`."""
        self._execute(FINISH, *_columns(finished), worker_id)

    def succeed(self, worker_id: UUID, run: RunKey, result: str) -> None:
        """See `Store`."""
        self._execute(SUCCEED, result, run.task_id, run.run, worker_id)

    def fail(  # noqa: PLR0913  all that is known of a failure
        self, worker_id: UUID, run: RunKey, error: str, traceback: str, *, exception: str = "", announce: bool = False
    ) -> None:
        """See `Store`."""
        history = json.dumps([failure(worker_id, run.attempt, error, exception)])
        kept = storable.text(error), storable.text(traceback, limit=TRACEBACK_LIMIT)
        statement = FAIL_AND_ANNOUNCE if announce else FAIL
        self._execute(statement, *kept, history, run.task_id, run.run, worker_id)
        if announce:
            self._execute(WAKE)

    def requeue(self, worker_id: UUID, run: RunKey, message: Message, why: str) -> None:
        """See `Store`."""
        row = message.columns()
        self._execute(
            REQUEUE,
            *(row["name"], row["queue"], row["priority"], row["message"], row["expires_at"], message.due_at),
            *(row["retries"], row["generation"], row["generation"], json.dumps([event(why, worker_id, run.attempt)])),
            *(run.task_id, run.run, worker_id),
        )
        self._execute(WAKE)

    def give_back(self, worker_id: UUID, run: RunKey) -> None:
        """See `Store`."""
        self._execute(GIVE_BACK, run.task_id, run.run, worker_id)

    def reconnect(self) -> None:
        """See `Store`."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def purge(self, *, before: datetime, limit: int) -> int:
        """See `Store`."""
        with connection.cursor() as cursor:
            cursor.execute(PURGE, (before, limit))
            purged: int = cursor.rowcount
        return purged

    def finished_estimate(self) -> int | None:
        """See `Store`."""
        with connection.cursor() as cursor:
            # Autovacuum keeps an estimate for a partial index, too.
            cursor.execute("SELECT reltuples FROM pg_class WHERE oid = 'drumline_ledger_finished'::regclass")
            estimate = int(cursor.fetchone()[0])
        return estimate if estimate >= 0 else None


def _columns(runs: Sequence[RunKey]) -> tuple[list[UUID], list[int]]:
    return [run.task_id for run in runs], [run.run for run in runs]
