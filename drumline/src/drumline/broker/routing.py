"""Which declared queues a message reaches by its exchange and its routing key."""

import re
from collections.abc import Iterator
from typing import Any

from celery import Celery
from kombu import Queue

from drumline.application import application


def exchange_name(exchange: Any) -> str:
    """Return the name of an exchange that is given by its name, as an object, or not at all."""
    return getattr(exchange, "name", exchange) or ""


def bound_queues(app: Celery, exchange: str, key: str) -> Iterator[Queue]:
    """Yield the declared queues that take what is sent to an exchange with this routing key."""
    queues: Any = app.amqp.queues
    return (queue for queue in queues.values() if queue.exchange.name == exchange and _takes(queue, key))


def is_lowest_first() -> bool:
    """Return whether the broker delivers low numbers of priority first, as kombu's Redis transport does."""
    return bool(application().connection_for_read().transport.driver_type == "redis")


def _takes(queue: Queue, key: str) -> bool:
    if queue.exchange.type == "topic":
        pattern = re.escape(queue.routing_key).replace(r"\*", r"[^.]*").replace(r"\#", ".*")
        return re.fullmatch(pattern, key) is not None
    return queue.exchange.type == "fanout" or queue.routing_key == key
