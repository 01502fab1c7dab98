"""Publishing: messages go to the broker, many in one round trip, and never hold their sender for long."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache, partial
from typing import Any

from amqp.exceptions import ChannelError, MessageNacked
from celery import Celery
from kombu import Connection, Producer
from kombu.exceptions import OperationalError
from kombu.pools import producers

from drumline import conf, storable
from drumline.application import application
from drumline.logs import get_logger
from drumline.message import Message

logger = get_logger(__name__)

# Seconds for which a sender leaves everything to the relay once the broker has failed it.
PAUSE = 5.0


class PublishError(Exception):
    """The broker did not confirm the messages; some or all may have arrived nevertheless."""


class RefusedError(Exception):
    """The messages could not be published, and not because the broker is away: trying again soon will not help."""


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
    """Publish in order, pipelined where kombu and the transport can.

    Raise PublishError when the broker does not take all, and RefusedError for anything else that went wrong.
    """
    _send(partial(_publish_all, messages))


def _publish_all(messages: Sequence[Message], producer: Producer) -> None:
    _declare({message.queue for message in messages}, producer)
    channel: Any = producer.channel
    # The package's own transport makes less of a message than kombu does.
    if hasattr(channel, "push") and all(map(channel.takes, messages)):
        channel.push(messages)
        return
    for message in messages:
        _publish_one(producer, message)


def _declare(names: set[str], producer: Producer) -> None:
    """Declare queues that this connection has not declared; kombu copies a queue before it looks."""
    queues: Any = application().amqp.queues
    connection: Any = producer.connection
    for name in names:
        if name in queues or queues.create_missing:
            queue = queues[name]
            if not queue.can_cache_declaration or hash(queue) not in connection.declared_entities:
                producer.maybe_declare(queue)


def publish_events(events: Sequence[tuple[Any, dict[str, Any]]]) -> None:
    """Publish what Celery's event dispatcher said of tasks that were sent; nobody waits for it, so failing is no error."""

    def each(producer: Producer) -> None:
        for body, options in events:
            producer.publish(body, **{**options, "retry": False})

    if breaker.is_closed():
        try:
            _send(each)
        except (PublishError, RefusedError) as error:
            logger.warning("events_not_published", error=str(error), events=len(events))


def _send(each: Callable[[Producer], None]) -> None:
    errors: tuple[type[BaseException], ...] = ()
    try:
        app = application()
        errors = _broker_errors(app)
        with (
            producers[_connection(app)].acquire(block=True) as producer,
            _dropped_after_an_error(producer),
            _batch(producer),
        ):
            each(producer)
    except Exception as error:
        said = storable.error_text(error)
        # A channel's error is about one message or its queue; the broker answers, and takes the others.
        if isinstance(error, errors) and not isinstance(error, ChannelError):
            breaker.failed()
            raise PublishError(said) from error
        raise RefusedError(said) from error
    breaker.answered()


@contextmanager
def _dropped_after_an_error(producer: Any) -> Iterator[None]:
    """Drop the connection without closing it: a silent broker does not answer a close.

    It is never used again, since a late reply would match the wrong message.
    """
    try:
        yield
    except Exception:
        if producer.connection is not None:
            producer.connection.collect(socket_timeout=0.1)
        raise


def _batch(producer: Any) -> AbstractContextManager[Any]:
    """Pipeline what is published within; kombu before 5.7 has no batches, and publishes one by one."""
    batch: AbstractContextManager[Any] = producer.batch() if hasattr(producer, "batch") else nullcontext()
    return batch


def _publish_one(producer: Producer, message: Message) -> None:
    producer.publish(
        message.body,
        content_type=message.content_type,
        content_encoding=message.content_encoding,
        headers=message.published_headers(),
        exchange=message.exchange,
        routing_key=message.routing_key,
        **message.properties,
    )


@cache
def _broker_errors(app: Celery) -> tuple[type[BaseException], ...]:
    """Return the errors that mean that the broker is away, or does not take messages."""
    connection = _connection(app)
    of_transport = (*connection.connection_errors, *connection.channel_errors)
    # kombu's Redis transport lists KeyError for the sake of its consumers.
    return OSError, OperationalError, MessageNacked, *(each for each in of_transport if each is not KeyError)


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
