"""Sending: a durable task becomes a row in the caller's transaction, and is published right after the commit.

Celery sends everything through `app.producer_or_acquire`, so that is where the ledger stands: `delay`, `apply_async`,
chain, group, chord, link and retry go this way with nothing changed where they are called. What is sent within one
`with app.producer_or_acquire()`, as Celery's own group does, becomes one INSERT and one pipelined publish.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from functools import partial, wraps
from typing import Any

import structlog
from celery import Celery
from django.db import DatabaseError, connection, transaction
from kombu import Connection

from drumline import conf
from drumline.ledger import running
from drumline.ledger.message import Message
from drumline.ledger.publishing import PublishError, breaker, publish
from drumline.ledger.services import wake
from drumline.models import DurableTask

logger = structlog.get_logger(__name__)

# Rows in one statement: enough to make the round trip cheap, few enough for a small statement.
CHUNK = 1000

COLUMNS = """id, name, queue, priority, message, created_at, due_at, expires_at, published_at, retries, max_attempts,
    generation, parent_id, root_id"""
# A task that replaces itself (Task.replace) comes again under its own id; every other second time is the same task.
REPLACE = """ON CONFLICT (id) DO UPDATE SET name = excluded.name, queue = excluded.queue, priority = excluded.priority,
    message = excluded.message, state = 0, due_at = excluded.due_at, expires_at = excluded.expires_at,
    published_at = excluded.published_at, retries = excluded.retries, max_attempts = excluded.max_attempts,
    generation = excluded.generation, attempt = 0
    WHERE drumline_ledger.generation < excluded.generation"""


def install() -> None:
    """Route everything that this process sends through the ledger.

    On the class, since a project makes its application when it likes, and a task may be sent before that application
    is complete.
    """
    acquire, send_task = Celery.producer_or_acquire, Celery.send_task

    def producer_or_acquire(app: Celery, producer: Any = None) -> AbstractContextManager[Any]:
        # Celery asks twice for each task of a group.
        return nullcontext(producer) if isinstance(producer, LedgerProducer) else ledger_producer(app, producer)

    @contextmanager
    def ledger_producer(app: Celery, producer: Any) -> Iterator[Any]:
        with ExitStack() as stack:
            ledger = LedgerProducer(app, lambda: stack.enter_context(acquire(app, producer)))
            yield ledger
            ledger.flush()

    @wraps(send_task)
    def send_task_for_the_ledger(  # noqa: PLR0913, PLR0917  Celery's signature
        app: Celery,
        name: str,
        args: Any = None,
        kwargs: Any = None,
        countdown: float | None = None,
        eta: Any = None,
        **options: Any,
    ) -> Any:
        # As a header the due time reaches the ledger whole; as an option Celery would turn it into a delayed exchange
        # on RabbitMQ, and refuse less than a second there.
        if countdown or eta:
            due = eta if isinstance(eta, str) else _due(app, countdown, eta)
            options["headers"] = {**(options.get("headers") or {}), "eta": due}
        if options.get("chord"):
            # The body is called with its members' results, so a member that stores none would leave it waiting.
            options["ignore_result"] = False
        return send_task(app, name, args, kwargs, **options)

    Celery.producer_or_acquire = producer_or_acquire  # type: ignore[method-assign, assignment]
    Celery.send_task = send_task_for_the_ledger  # type: ignore[method-assign, assignment]


def _due(app: Celery, countdown: float | None, eta: datetime | None) -> str:
    due = eta or datetime.now(UTC) + timedelta(seconds=float(countdown or 0))
    if due.tzinfo is None:
        due = due.replace(tzinfo=app.timezone)
    return due.isoformat()


class LedgerProducer:
    """Takes what Celery publishes: durable tasks for the ledger, and the rest for the producer it stands for."""

    def __init__(self, app: Celery, acquire: Any) -> None:
        self._app = app
        self._acquire = acquire
        self._producer: Any = None
        self._messages: list[Message] = []

    @property
    def connection(self) -> Connection:
        """Return a connection to ask about errors; it is not established."""
        return self._app.producer_pool.connections.connection

    def publish(self, body: Any, **options: Any) -> Any:
        """Keep a durable task for `flush`; publish anything else now."""
        durable = options.pop("durable", None)
        name = (options.get("headers") or {}).get("task")
        if name is None or not self._is_durable(name, durable=durable):
            return self._real.publish(body, **options)
        options["headers"]["durable"] = True
        self._messages.append(Message.capture(body, **options))
        return None

    def flush(self) -> None:
        """Write the rows in the caller's transaction, and publish after it."""
        messages, self._messages = self._messages, []
        messages = [message for message in messages if not running.replaced_by(message)]
        if messages:
            enqueue(self._app, messages)

    def _is_durable(self, name: str, *, durable: bool | None) -> bool:
        if durable is None:
            durable = getattr(self._app.tasks.get(name), "durable", None)
        return conf.durable() if durable is None else durable

    @property
    def _real(self) -> Any:
        if self._producer is None:
            self._producer = self._acquire()
        return self._producer

    def __getattr__(self, name: str) -> Any:
        """Be the real producer in everything else."""
        return getattr(self._real, name)


def enqueue(app: Celery, messages: Sequence[Message]) -> None:
    """Write a row for each message in the caller's transaction; what is due is published after its commit."""
    # The same id twice in one INSERT would be an error; sent one after the other, the second does nothing.
    unique = list({message.id: message for message in reversed(messages)}.values())[::-1]
    ready = [message for message in unique if message.due_at is None] if breaker.is_closed() else []
    attempts = {name: _max_attempts(app, name) for name in {message.headers["task"] for message in unique}}
    with transaction.atomic(savepoint=False) if len(unique) > CHUNK else ExitStack():
        for start in range(0, len(unique), CHUNK):
            chunk = unique[start : start + CHUNK]
            _insert([_row(each, published=bool(ready), max_attempts=attempts[each.headers["task"]]) for each in chunk])
        if len(ready) < len(unique):
            wake()
    if ready:
        transaction.on_commit(partial(_publish_or_leave, ready), robust=True)


def _max_attempts(app: Celery, name: str) -> int:
    return getattr(app.tasks.get(name), "max_attempts", None) or conf.max_attempts()


def _row(message: Message, *, published: bool, max_attempts: int) -> dict[str, Any]:
    return {
        "id": str(message.id),
        "name": message.headers["task"],
        "queue": message.queue,
        "priority": message.properties.get("priority") or 0,
        "message": message.as_json(),
        "due_at": message.due_at,
        "expires_at": message.expires_at,
        "published": published and message.due_at is None,
        "retries": message.headers.get("retries") or 0,
        "max_attempts": max_attempts,
        "generation": message.generation,
        "parent_id": message.headers.get("parent_id") or "",
        "root_id": message.headers.get("root_id") or "",
    }


def _insert(rows: Sequence[dict[str, Any]]) -> None:
    if connection.vendor == "postgresql":
        # One document instead of thirteen arrays: psycopg writes arrays in Python, element by element. A message is a
        # part of it, and becomes the text that it is kept as in the server.
        statement = f"""INSERT INTO drumline_ledger ({COLUMNS})
            SELECT id, name, queue, priority, message, statement_timestamp(), COALESCE(due_at, statement_timestamp()),
                expires_at, CASE WHEN published THEN statement_timestamp() END, retries, max_attempts, generation,
                parent_id, root_id
            FROM json_to_recordset(%s::json) AS row (id uuid, name text, queue text, priority smallint, message text,
                due_at timestamptz, expires_at timestamptz, published boolean, retries int, max_attempts int,
                generation smallint, parent_id text, root_id text)
            {REPLACE}"""  # noqa: S608  constants only
        with connection.cursor() as cursor:
            cursor.execute(statement, [json.dumps(rows, default=str)])
        return
    now = datetime.now(UTC)
    names = [name.strip() for name in COLUMNS.split(",")]
    fields: list[Any] = [DurableTask._meta.get_field(name) for name in names]  # noqa: SLF001  documented API
    statement = f"INSERT INTO drumline_ledger ({COLUMNS}) VALUES ({', '.join(['%s'] * len(names))}) {REPLACE}"  # noqa: S608
    with connection.cursor() as cursor:
        for row in rows:
            published_at = now if row["published"] else None
            values = {
                **row,
                "message": json.dumps(row["message"]),
                "created_at": now,
                "due_at": row["due_at"] or now,
                "published_at": published_at,
            }
            cursor.execute(statement, [field.get_db_prep_value(values[field.name], connection) for field in fields])


def _publish_or_leave(messages: Sequence[Message]) -> None:
    """Publish; what the broker did not take is the relay's, so nothing is raised after the commit."""
    try:
        publish(messages)
    except PublishError as error:
        logger.warning("publish_left_to_relay", error=str(error), tasks=len(messages))
        try:
            DurableTask.objects.filter(
                id__in=[message.id for message in messages], state=DurableTask.State.QUEUED
            ).update(published_at=None)
            wake()
        except DatabaseError:
            # The relay finds them nevertheless: published, and not in the broker.
            logger.warning("publish_not_recorded", exc_info=True)
