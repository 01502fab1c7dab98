"""Ringing the bell: messages go to the broker, many in one round trip, and never hold their sender for long."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

from celery import Celery
from celery.app import app_or_default
from kombu import Connection, Producer
from kombu.pools import producers

from drumline import conf
from drumline.ledger.message import Message

# Seconds for which a sender leaves everything to the relay once the broker has failed it.
PAUSE = 5.0


class PublishError(Exception):
    """The broker did not confirm the messages; some or all may have arrived nevertheless."""


class Breaker:
    """Keeps a process from waiting for a broker that has just failed."""

    def __init__(self) -> None:
        self._open_until = 0.0

    def is_closed(self) -> bool:
        """Return whether the broker is worth a try."""
        return time.monotonic() >= self._open_until

    def failed(self) -> None:
        """Leave the broker alone for a while."""
        self._open_until = time.monotonic() + PAUSE

    def answered(self) -> None:
        """Use the broker again."""
        self._open_until = 0.0


breaker = Breaker()


def publish(messages: Sequence[Message]) -> None:
    """Publish in order, pipelined where the transport can; raise PublishError when the broker does not take all."""
    try:
        with _producer() as producer:
            _publish(producer, messages)
    except Exception as error:
        breaker.failed()
        raise PublishError(f"{type(error).__name__}: {error}") from error
    breaker.answered()


def _publish(producer: Any, messages: Sequence[Message]) -> None:
    declared: set[str] = set()
    try:
        with producer.batch():
            for message in messages:
                _publish_one(producer, message, declare=message.queue not in declared)
                declared.add(message.queue)
    except Exception:
        # Without a word, since whoever is silent does not answer to a good-bye either; and never used again, since an
        # answer that comes late would be taken for that to another message.
        if producer.__connection__ is not None:
            producer.__connection__.collect(socket_timeout=0.1)
        raise


def _publish_one(producer: Producer, message: Message, *, declare: bool) -> None:
    queue = app_or_default().amqp.queues.get(message.queue) if declare else None
    producer.publish(
        message.body,
        content_type=message.content_type,
        content_encoding=message.content_encoding,
        # The ledger has waited; a worker must not wait again by its own clock.
        headers={**message.headers, "eta": None, "published": time.time()},
        exchange=message.exchange,
        routing_key=message.routing_key,
        declare=[queue] if queue is not None else [],
        **message.properties,
    )


@contextmanager
def _producer() -> Iterator[Any]:
    with producers[_connection(app_or_default())].acquire(block=True) as producer:
        yield producer


@cache
def _connection(app: Celery) -> Connection:
    """Return connections of the sender's own, which give up soon: a request waits for them."""
    seconds = conf.publish_timeout()
    options = {
        **app.conf.broker_transport_options,
        "socket_timeout": seconds,
        "socket_connect_timeout": seconds,
        "connect_retries_timeout": seconds,
        "read_timeout": seconds,
        "write_timeout": seconds,
        "max_retries": 1,
        "interval_start": 0,
    }
    return app.connection_for_write(connect_timeout=seconds, transport_options=options)
