"""Sending: a durable task becomes a row in the caller's transaction, and is published right after the commit.

Celery sends everything through `app.producer_or_acquire`, so that is where the ledger stands: `delay`, `apply_async`,
chain, group, chord, link and retry go this way with nothing changed where they are called. What is sent within one
`with app.producer_or_acquire()`, as Celery's own group does, becomes one INSERT and one pipelined publish.
"""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from functools import partial, wraps
from typing import Any
from uuid import UUID

from celery import Celery
from django.core.exceptions import SynchronousOnlyOperation
from django.db import DatabaseError, InterfaceError, OperationalError, connection, transaction
from kombu import Connection, Queue

from drumline import conf
from drumline.application import is_durable, is_own, leads_elsewhere
from drumline.ledger import running
from drumline.ledger.message import COLUMN, Message, moment
from drumline.ledger.publishing import PublishError, RefusedError, breaker, publish, publish_events
from drumline.ledger.services import wake
from drumline.logs import get_logger
from drumline.models import DurableTask

logger = get_logger(__name__)

# Rows in one statement: enough to make the round trip cheap, few enough for a small statement.
CHUNK = 1000

# In the place of `durable=` when the ledger takes a task without its sender having said so.
UNSAID = object()

COLUMNS = """id, name, queue, priority, message, created_at, due_at, expires_at, published_at, retries, max_attempts,
    generation, parent_id, root_id"""
# A task that replaces itself (Task.replace) comes again under its own id; every other second time is the same task.
REPLACE = """ON CONFLICT (id) DO UPDATE SET name = excluded.name, queue = excluded.queue, priority = excluded.priority,
    message = excluded.message, state = 0, due_at = excluded.due_at, expires_at = excluded.expires_at,
    published_at = excluded.published_at, retries = excluded.retries, max_attempts = excluded.max_attempts,
    generation = excluded.generation, attempt = 0
    WHERE drumline_ledger.generation < excluded.generation"""


def install() -> None:
    """Route everything that this project's Celery application sends through the ledger.

    On the class, since a project makes its application when it likes, and a task may be sent before that application
    is complete. Other applications, and connections to other brokers, are left to Celery.
    """
    acquire, send_task = Celery.producer_or_acquire, Celery.send_task

    def producer_or_acquire(app: Celery, producer: Any = None) -> AbstractContextManager[Any]:
        # Celery asks twice for each task of a group.
        if isinstance(producer, LedgerProducer):
            return nullcontext(producer)
        if not is_own(app) or (producer is not None and leads_elsewhere(app, producer.connection)):
            return acquire(app, producer)
        return ledger_producer(app, producer)

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
        if _is_taken(app, name, options):
            _prepare(options, countdown, eta)
            countdown = eta = None
        return send_task(app, name, args, kwargs, countdown, eta, **options)

    Celery.producer_or_acquire = producer_or_acquire  # type: ignore[method-assign, assignment]
    Celery.send_task = send_task_for_the_ledger  # type: ignore[method-assign, assignment]


def _is_taken(app: Celery, name: str, options: dict[str, Any]) -> bool:
    """Return whether the ledger takes a task; leave the answer in the options, for the producer."""
    durable = options.pop("durable", None)
    if _goes_elsewhere(app, options):
        if durable:
            raise ValueError(
                f"{name} is sent with durable=True through another application or to another broker than this "
                "project's, where the ledger cannot follow it; leave out durable=True"
            )
        return False
    taken = is_durable(app, name, said=durable)
    options["durable"] = UNSAID if taken and durable is None else taken
    return taken


def _prepare(options: dict[str, Any], countdown: float | None, eta: Any) -> None:
    """Move to the message's headers what Celery or the broker would act on."""
    if options.get("task_id"):
        options["task_id"] = str(options["task_id"])
    # As a header the due time reaches the ledger whole; as an option Celery would turn it into a delayed exchange on
    # RabbitMQ, and refuse less than a second there.
    if countdown or eta:
        due = datetime.now(UTC) + timedelta(seconds=float(countdown)) if countdown else moment(eta)
        options["headers"] = {**(options.get("headers") or {}), "eta": due.isoformat()}
    if options.get("chord"):
        # The body is called with its members' results, so a member that stores none would leave it waiting.
        options["ignore_result"] = False


def _goes_elsewhere(app: Celery, options: dict[str, Any]) -> bool:
    if not is_own(app):
        return True
    producer = options.get("producer") or options.get("publisher")
    chosen = options.get("connection")
    if chosen is None and producer is not None and not isinstance(producer, LedgerProducer):
        chosen = producer.connection
    return leads_elsewhere(app, chosen)


class LedgerProducer:
    """Takes what Celery publishes: durable tasks for the ledger, and the rest for the producer it stands for."""

    def __init__(self, app: Celery, acquire: Any) -> None:
        self._app = app
        self._acquire = acquire
        self._producer: Any = None
        self._messages: list[Message] = []
        self._events: list[tuple[Any, dict[str, Any]]] = []

    @property
    def connection(self) -> Connection:
        """Return a connection to ask about errors; it is not established."""
        return self._app.producer_pool.connections.connection

    def publish(self, body: Any, **options: Any) -> Any:
        """Keep a durable task, and the event that announces it, for `flush`; publish anything else now."""
        durable = options.pop("durable", None)
        name = (options.get("headers") or {}).get("task")
        if name is None and self._announces(body):
            self._events.append((body, options))
            return None
        if name is None or not (durable is UNSAID or is_durable(self._app, name, said=durable)):
            return self._real.publish(body, **options)
        queue = _own_queue(self._app, options)
        if queue is None and durable is True:
            raise ValueError(
                f"{name} is sent with durable=True to exchange {_name(options['exchange'])!r} with the routing key "
                f"{options.get('routing_key')!r}, which leads to no queue of CELERY_TASK_QUEUES; declare the queue, or "
                "leave out durable=True"
            )
        if queue is None:
            return self._real.publish(body, **options)
        options["headers"]["durable"] = True
        self._messages.append(Message.capture(body, queue=queue, **options))
        return None

    def _announces(self, body: Any) -> bool:
        """Return whether this is the event about the task that was kept last (CELERY_TASK_SEND_SENT_EVENT)."""
        last = self._messages[-1].headers["id"] if self._messages else None
        return isinstance(body, dict) and body.get("type") == "task-sent" and body.get("uuid") == last

    def flush(self) -> None:
        """Write the rows in the caller's transaction, and publish after it."""
        messages, self._messages = self._messages, []
        messages = [message for message in messages if not running.replaced_by(message)]
        if messages:
            enqueue(self._app, messages)
        events, self._events = self._events, []
        if events:
            transaction.on_commit(partial(publish_events, events), robust=True)

    @property
    def _real(self) -> Any:
        if self._producer is None:
            self._producer = self._acquire()
        return self._producer

    def __getattr__(self, name: str) -> Any:
        """Be the real producer in everything else."""
        return getattr(self._real, name)


def _own_queue(app: Celery, options: dict[str, Any]) -> str | None:
    """Return the one queue that a message goes to; None when it goes to none of this application's, or to many."""
    declared, exchange, key = app.amqp.queues, _name(options.get("exchange")), options.get("routing_key") or ""
    queue: Queue | None = next(iter(options.get("declare") or ()), None)
    if queue is not None and exchange and queue.exchange.name != exchange:
        # Celery declares the default queue beside an exchange of the caller's.
        queue = None
    if queue is None and exchange:
        queue = next((each for each in declared.values() if _receives(each, exchange, key)), None)
    if queue is None:
        name = "" if exchange else key
    else:
        name = queue.name if queue.name in declared and queue.exchange.type != "fanout" else ""
    if len(name) > COLUMN or not re.fullmatch(r"[^\0\ud800-\udfff]*", name):
        raise ValueError(f"The queue {name[:80]!r} has more than {COLUMN} characters, or some that are no text")
    return name or None


def _receives(queue: Queue, exchange: str, key: str) -> bool:
    if queue.exchange.name != exchange:
        return False
    if queue.exchange.type == "topic":
        pattern = re.escape(queue.routing_key).replace(r"\*", r"[^.]*").replace(r"\#", ".*")
        return re.fullmatch(pattern, key) is not None
    return queue.exchange.type == "fanout" or queue.routing_key == key


def _name(exchange: Any) -> str:
    return getattr(exchange, "name", exchange) or ""


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
                parent_id, root_id
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
