"""Celery's producer: what the application sends goes into the ledger.

Celery sends everything through `app.producer_or_acquire`, so that is where the ledger stands: `delay`, `apply_async`,
chain, group, chord, link and retry go this way with nothing changed where they are called. What is sent within one
`with app.producer_or_acquire()`, as Celery's own group does, becomes one INSERT and one pipelined publish.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from functools import partial, wraps
from typing import Any

from celery import Celery
from django.db import transaction
from kombu import Connection, Queue
from kombu.utils.uuid import uuid

from drumline.application import is_durable, is_own, leads_elsewhere
from drumline.broker.publishing import publish_events
from drumline.broker.routing import bound_queues, exchange_name
from drumline.celery_hooks.copies import First, alike, makes_copies
from drumline.ledger.current import replaced_by
from drumline.message import COLUMN, Message, moment
from drumline.sending.enqueue import enqueue

# What Celery would take for a property of the message and pass on, and what to use instead.
OF_NO_CALL = {
    "max_attempts": "which belongs to the task, not to one call. Set it there: @shared_task(max_attempts=…)",
    "owner": "which is no option. Use owned(task.s(…), owner=…).apply_async()",
}
# What a message holds of the tasks after it, and a chain, group or chord of its own.
FOLLOWING = ("chain", "chord", "link", "link_error")
OF_CANVAS = ("tasks", "header", "body")

# In the place of `durable=` when the ledger takes a task without its sender having said so.
UNSAID = object()


def install() -> None:
    """Route everything that this project's Celery application sends through the ledger.

    On the class, since a project makes its application when it likes, and a task may be sent before that application
    is complete. Other applications, and connections to other brokers, are left to Celery.
    """
    acquire, send_task = Celery.producer_or_acquire, Celery.send_task

    @wraps(acquire)
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
        producer = options.get("producer")
        if isinstance(producer, LedgerProducer):
            shared = alike(name, countdown, eta, options)
            if shared is not None and producer.has_first(shared) and _are_arguments(args, kwargs):
                return _send_copy(app, producer, args, kwargs, options)
            producer.expects(shared)
        if _is_taken(app, name, options):
            _refuse_what_is_ignored(app, name, options)
            _prepare(options, countdown, eta)
            countdown = eta = None
        return send_task(app, name, args, kwargs, countdown, eta, **options)

    Celery.producer_or_acquire = producer_or_acquire  # type: ignore[method-assign, assignment]
    Celery.send_task = send_task_for_the_ledger  # type: ignore[method-assign, assignment]


def _are_arguments(args: Any, kwargs: Any) -> bool:
    return isinstance(args, (list, tuple, type(None))) and isinstance(kwargs, (dict, type(None)))


def _send_copy(app: Celery, producer: "LedgerProducer", args: Any, kwargs: Any, options: dict[str, Any]) -> Any:
    """Do what `Celery.send_task` does for a task that differs from the one before only in its id and its arguments."""
    task_id = str(options.get("task_id") or uuid())
    ignored = options.get("ignore_result", False)
    if not ignored:
        app.backend.on_task_call(producer, task_id)
    producer.copy(task_id, args or (), kwargs or {}, options.get("group_index"))
    result = (options.get("result_cls") or app.AsyncResult)(task_id)
    result.ignored = ignored
    if options.get("add_to_parent", True) and (parent := app.current_worker_task):
        parent.add_trail(result)
    return result


def _is_taken(app: Celery, name: str, options: dict[str, Any]) -> bool:
    """Return whether the ledger takes a task; leave the answer in the options, for the producer."""
    durable = options.pop("durable", None)
    if _goes_elsewhere(app, options):
        if durable:
            raise ValueError(
                f"{name} has durable=True but is sent through another application, or to another broker, than this "
                "project's, where the ledger cannot follow it. Remove durable=True"
            )
        return False
    taken = is_durable(app, name, said=durable)
    options["durable"] = UNSAID if taken and durable is None else taken
    return taken


def _refuse_what_is_ignored(app: Celery, name: str, options: dict[str, Any]) -> None:
    """Raise TypeError for an option that no call has, here or in what is sent after it, where only a worker would see it."""
    for option, instead in OF_NO_CALL.items():
        # A stamp may have any name.
        if option in options and option not in (options.get("stamped_headers") or ()):
            raise TypeError(f"{name} is sent with {option}={options[option]!r}, {instead}")
    for part in FOLLOWING:
        if following := options.get(part):
            _refuse_in(app, following)


def _refuse_in(app: Celery, following: Any) -> None:
    if isinstance(following, (list, tuple)):
        for each in following:
            _refuse_in(app, each)
    elif isinstance(following, Mapping):
        name, options = str(following.get("task")), following.get("options") or {}
        if following.get("subtask_type"):
            for part in OF_CANVAS:
                _refuse_in(app, (following.get("kwargs") or {}).get(part))
        elif not OF_NO_CALL.keys().isdisjoint(options) and not is_durable(app, name, said=options.get("durable")):
            return
        _refuse_what_is_ignored(app, name, options)


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
        # The message of which others may be copies, and what a message that is being made shares with its copies.
        self._first: First | None = None
        self._expected: dict[str, Any] | None = None

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
                f"{name} has durable=True but is sent to exchange {exchange_name(options['exchange'])!r} with the routing key "
                f"{options.get('routing_key')!r}, which matches no queue in CELERY_TASK_QUEUES. Declare the queue, or "
                "remove durable=True"
            )
        if queue is None:
            return self._real.publish(body, **options)
        if self._expected is not None and makes_copies(self._app):
            self._first = First(body, queue=queue, shared=self._expected, options=options)
        options["headers"]["durable"] = True
        self._messages.append(Message.capture(body, queue=queue, **options))
        return None

    def expects(self, shared: dict[str, Any] | None) -> None:
        """Have copies made of the next message for tasks that share this with it; of none if it is None."""
        self._first, self._expected = None, shared

    def has_first(self, shared: dict[str, Any] | None = None) -> bool:
        """Return whether there is a message to make copies of, for tasks that share this with it."""
        return self._first is not None and shared in (None, self._first.shared)

    def copy(
        self, task_id: str, args: Sequence[Any], kwargs: Mapping[str, Any], group_index: int | None = None
    ) -> None:
        """Keep a copy of the first message with an id and arguments of its own."""
        if self._first is None:
            raise RuntimeError("there is no message to make a copy of")
        self._messages.append(self._first.copy(self._app, task_id, args, kwargs, group_index))

    def _announces(self, body: Any) -> bool:
        """Return whether this is the event about the task that was kept last (CELERY_TASK_SEND_SENT_EVENT)."""
        last = self._messages[-1].headers["id"] if self._messages else None
        return isinstance(body, dict) and body.get("type") == "task-sent" and body.get("uuid") == last

    def flush(self) -> None:
        """Write the rows in the caller's transaction, and publish after it."""
        messages, self._messages = self._messages, []
        messages = [message for message in messages if not replaced_by(message)]
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
    declared, exchange, key = app.amqp.queues, exchange_name(options.get("exchange")), options.get("routing_key") or ""
    queue: Queue | None = next(iter(options.get("declare") or ()), None)
    if queue is not None and exchange and queue.exchange.name != exchange:
        # Celery declares the default queue beside an exchange of the caller's.
        queue = None
    if queue is None and exchange:
        queue = next(bound_queues(app, exchange, key), None)
    if queue is None:
        name = "" if exchange else key
    else:
        name = queue.name if queue.name in declared and queue.exchange.type != "fanout" else ""
    if len(name) > COLUMN or not re.fullmatch(r"[^\0\ud800-\udfff]*", name):
        raise ValueError(
            f"The queue {name[:80]!r} is longer than {COLUMN} characters, or contains characters that are not text"
        )
    return name or None
