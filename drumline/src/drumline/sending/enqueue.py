"""Sending: a durable task becomes a row in the caller's transaction, and is published right after the commit."""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any
from uuid import UUID

from celery import Celery
from django.core.exceptions import SynchronousOnlyOperation
from django.db import DatabaseError, InterfaceError, OperationalError, connection, transaction

from drumline import conf
from drumline.broker.publishing import PublishError, RefusedError, breaker, publish
from drumline.ledger.recovery import messages_left
from drumline.ledger.store import store
from drumline.logs import get_logger
from drumline.message import Message

logger = get_logger(__name__)

# Rows in one statement, and about as many messages: enough to make the round trip cheap, few enough for a small statement.
CHUNK = 1000


def enqueue(app: Celery, messages: Sequence[Message]) -> None:
    """Write a row for each message in the caller's transaction; what is due is published after its commit."""
    # The same id twice in one INSERT would be an error; sent one after the other, the second does nothing.
    unique = dict(reversed({message.id: message for message in reversed(messages)}.items()))
    attempts = {name: _max_attempts(app, name) for name in {message.headers["task"] for message in unique.values()}}
    published = breaker.is_closed()
    rows = [
        _row(task_id, message, published=published, max_attempts=attempts[message.headers["task"]])
        for task_id, message in unique.items()
    ]
    try:
        written = _write_again_if_disconnected(rows)
    except SynchronousOnlyOperation as error:
        name = messages[0].headers["task"]
        raise SynchronousOnlyOperation(
            f"{name} was sent from async code, where Django's database cannot be used. "
            "Use: await sync_to_async(task.delay)(…), with `from asgiref.sync import sync_to_async`"
        ) from error
    if len(written) < len(messages):
        _warn_of_reused_ids(messages, written)
    ready = [unique[row["id"]] for row in rows if row["published"] and row["id"] in written]
    if ready:
        _publish_after_commit(ready)


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
    ledger = store()
    written: set[UUID] = set()
    with transaction.atomic(savepoint=False) if len(rows) > CHUNK else ExitStack():
        for start in range(0, len(rows), CHUNK):
            written |= ledger.insert(rows[start : start + CHUNK])
        if not all(row["published"] for row in rows):
            ledger.wake()
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


def _row(task_id: UUID, message: Message, *, published: bool, max_attempts: int) -> dict[str, Any]:
    due_at = message.due_at
    return {
        "id": task_id,
        **message.columns(strict=True),
        "due_at": due_at,
        "published": published and due_at is None,
        "max_attempts": max_attempts,
    }


class _Publication:
    """What is published after a commit, all at once."""

    def __init__(self, messages: list[Message]) -> None:
        self.messages = messages

    def __call__(self) -> None:
        _publish_or_leave(self.messages)


def _publish_after_commit(messages: list[Message]) -> None:
    """Publish with what was sent just before, if both are committed or neither; else after it."""
    savepoints, last = connection.run_on_commit[-1][:2] if connection.run_on_commit else (None, None)
    same_fate = savepoints == set(connection.savepoint_ids) and not _is_in_test_case()
    if isinstance(last, _Publication) and len(last.messages) < CHUNK and same_fate:
        last.messages += messages
    else:
        transaction.on_commit(_Publication(messages), robust=True)


def _is_in_test_case() -> bool:
    """Return whether a TestCase holds the transaction: it may run the callbacks of some part of it by themselves."""
    return any(getattr(block, "_from_testcase", False) for block in connection.atomic_blocks)


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
        messages_left([message.id for message in messages])
    except DatabaseError:
        # The relay finds them nevertheless: published, and not in the broker.
        logger.warning("publish_not_recorded", exc_info=True)
