"""Sending: a durable task becomes a row in the caller's transaction, and is published right after the commit."""

import json
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID

from celery import Celery
from django.core.exceptions import SynchronousOnlyOperation
from django.db import DatabaseError, InterfaceError, OperationalError, connection, transaction

from drumline import conf
from drumline.broker.publishing import PublishError, RefusedError, breaker, publish
from drumline.ledger.services import wake
from drumline.logs import get_logger
from drumline.message import Message
from drumline.models import DurableTask

logger = get_logger(__name__)

# Rows in one statement: enough to make the round trip cheap, few enough for a small statement.
CHUNK = 1000

COLUMNS = """id, name, queue, priority, message, created_at, due_at, expires_at, published_at, retries, max_attempts,
    generation, parent_id, root_id, state, run, attempt, error, traceback, history"""
# A task that replaces itself (Task.replace) comes again under its own id; every other second time is the same task.
REPLACE = """ON CONFLICT (id) DO UPDATE SET name = excluded.name, queue = excluded.queue, priority = excluded.priority,
    message = excluded.message, state = 0, due_at = excluded.due_at, expires_at = excluded.expires_at,
    published_at = excluded.published_at, retries = excluded.retries, max_attempts = excluded.max_attempts,
    generation = excluded.generation, attempt = 0, result = NULL
    WHERE drumline_ledger.generation < excluded.generation"""


def enqueue(app: Celery, messages: Sequence[Message]) -> None:
    """Write a row for each message in the caller's transaction; what is due is published after its commit."""
    # The same id twice in one INSERT would be an error; sent one after the other, the second does nothing.
    unique = list({message.id: message for message in reversed(messages)}.values())[::-1]
    attempts = {name: _max_attempts(app, name) for name in {message.headers["task"] for message in unique}}
    published = breaker.is_closed()
    rows = [_row(each, published=published, max_attempts=attempts[each.headers["task"]]) for each in unique]
    try:
        written = _write_again_if_disconnected(rows)
    except SynchronousOnlyOperation as error:
        name = unique[0].headers["task"]
        raise SynchronousOnlyOperation(
            f"{name} was sent from async code, where Django's database cannot be used. "
            "Type: await sync_to_async(task.delay)(…), with `from asgiref.sync import sync_to_async`"
        ) from error
    if len(written) < len(messages):
        _warn_of_reused_ids(messages, written)
    ready = [message for message in unique if message.due_at is None and message.id in written] if published else []
    if ready:
        transaction.on_commit(partial(_publish_or_leave, ready), robust=True)


def _write_again_if_disconnected(rows: Sequence[dict[str, Any]]) -> set[UUID]:
    # What a transaction holds is lost with its connection, so there the error is the caller's.
    kept = None if connection.in_atomic_block or not connection.autocommit else connection.connection
    try:
        return _write(rows)
    except (InterfaceError, OperationalError):
        # Django may have replaced the connection already, at the end of a transaction of `_write`.
        if kept is None or (kept is connection.connection and connection.is_usable()):
            raise
        connection.close()
    return _write(rows)


def _write(rows: Sequence[dict[str, Any]]) -> set[UUID]:
    written: set[UUID] = set()
    with transaction.atomic(savepoint=False) if len(rows) > CHUNK else ExitStack():
        for start in range(0, len(rows), CHUNK):
            written |= _insert(rows[start : start + CHUNK])
        if not all(row["published"] for row in rows):
            wake()
    return written


def _warn_of_reused_ids(messages: Sequence[Message], written: set[UUID]) -> None:
    """Say which tasks were not sent, as a task of the same id is there already."""
    seen: set[UUID] = set()
    for message in messages:
        if message.id not in written or message.id in seen:
            logger.warning("task_id_reused", task=message.headers["task"], task_id=message.headers["id"])
        seen.add(message.id)


def _max_attempts(app: Celery, name: str) -> int:
    return getattr(app.tasks.get(name), "max_attempts", None) or conf.max_attempts()


def _row(message: Message, *, published: bool, max_attempts: int) -> dict[str, Any]:
    due_at = message.due_at
    return {
        "id": message.id,
        **message.columns(strict=True),
        "due_at": due_at,
        "published": published and due_at is None,
        "max_attempts": max_attempts,
    }


def _insert(rows: Sequence[dict[str, Any]]) -> set[UUID]:
    """Return the ids that were written, which are not those that the ledger had already."""
    if connection.vendor == "postgresql":
        # One document instead of thirteen arrays: psycopg writes arrays in Python, element by element. A message is
        # text within it: as a part of it, the server would decode what no text of PostgreSQL can hold.
        statement = f"""INSERT INTO drumline_ledger ({COLUMNS})
            SELECT id, name, queue, priority, message, statement_timestamp(), COALESCE(due_at, statement_timestamp()),
                expires_at, CASE WHEN published THEN statement_timestamp() END, retries, max_attempts, generation,
                parent_id, root_id, 0, 0, 0, '', '', '[]'
            FROM json_to_recordset(%s::json) AS row (id uuid, name text, queue text, priority smallint, message text,
                due_at timestamptz, expires_at timestamptz, published boolean, retries int, max_attempts int,
                generation smallint, parent_id text, root_id text)
            {REPLACE} RETURNING id"""  # noqa: S608  constants only
        with connection.cursor() as cursor:
            cursor.execute(statement, [json.dumps(rows, default=str)])
            if cursor.rowcount == len(rows):
                return {row["id"] for row in rows}
            return {task_id for (task_id,) in cursor.fetchall()}
    now = datetime.now(UTC)
    names = [name.strip() for name in COLUMNS.split(",")]
    fields: list[Any] = [DurableTask._meta.get_field(name) for name in names]  # noqa: SLF001  documented API
    statement = f"INSERT INTO drumline_ledger ({COLUMNS}) VALUES ({', '.join(['%s'] * len(names))}) {REPLACE}"  # noqa: S608
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


def _publish_or_leave(messages: Sequence[Message]) -> None:
    """Publish; what the broker did not take is the relay's, so nothing is raised after the commit."""
    try:
        publish(messages)
    except PublishError as error:
        logger.warning("publish_left_to_relay", error=str(error), tasks=len(messages))
        _leave(messages)
    except RefusedError as error:
        logger.exception("publish_failed", error=str(error), tasks=len(messages))
        _leave(messages)


def _leave(messages: Sequence[Message]) -> None:
    try:
        DurableTask.objects.filter(id__in=[message.id for message in messages], state=DurableTask.State.QUEUED).update(
            published_at=None
        )
        wake()
    except DatabaseError:
        # The relay finds them nevertheless: published, and not in the broker.
        logger.warning("publish_not_recorded", exc_info=True)
