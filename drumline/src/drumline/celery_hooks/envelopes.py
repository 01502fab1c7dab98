"""What a worker fetches from its list and that is no message: it is logged and dropped, and does not end the worker.

kombu's Redis transport takes each entry for JSON with its own keys, and a consumer of Celery takes each message that
names a task for a complete one. An error of either is none of the broker's, and Celery ends the worker on it.
"""

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any
from uuid import uuid4

from celery.exceptions import InvalidTaskError
from kombu.transport import virtual
from kombu.utils.json import loads

from drumline.logs import get_logger
from drumline.storable import error_text

logger = get_logger(__name__)


class Envelope(virtual.Message):
    """A message of the Redis transport; what is none becomes one that names no task, which Celery logs and drops."""

    def __init__(self, payload: Any, channel: Any = None, **kwargs: Any) -> None:
        try:
            super().__init__(payload, channel=channel, **kwargs)
            # What the transport notes of it before it delivers it.
            self.delivery_info["exchange"], self.delivery_info["routing_key"]
        except Exception as error:  # noqa: BLE001  it may be anything
            logger.error("not_a_message", error=error_text(error), entry=repr(payload)[:1000])  # noqa: TRY400
            super().__init__(_unaddressed(payload), channel=channel, **kwargs)


def _unaddressed(payload: Any) -> dict[str, Any]:
    return {
        "body": payload if isinstance(payload, str) else repr(payload),
        "content-type": "text/plain",
        "content-encoding": "utf-8",
        "headers": {},
        "properties": {"delivery_tag": str(uuid4()), "delivery_info": {"exchange": "", "routing_key": ""}},
    }


def _loads(text: str, *args: Any, **kwargs: Any) -> Any:
    try:
        return loads(text, *args, **kwargs)
    except (ValueError, RecursionError):
        return text


def install() -> None:
    """Have every worker of this process read its list so; nothing is to be done where Redis' client is not installed."""
    if find_spec("redis") is None:
        return
    transport = import_module("kombu.transport.redis")
    transport.Channel.Message = Envelope
    transport.loads = _loads  # type: ignore[attr-defined]  # what kombu imports there


def guard(consumer: Any) -> None:
    """Have a consumer drop a message that cannot be made a request, with its reason in the log."""
    create = consumer.create_task_handler
    # For Redis, kombu counts KeyError among them, and a message without an id would be fetched again for ever.
    errors = {*consumer.connection_errors, *consumer.channel_errors} - {KeyError}
    broker_errors = tuple(errors)

    def create_task_handler(*args: Any, **kwargs: Any) -> Callable[[Any], Any]:
        handle = create(*args, **kwargs)

        def on_message(message: Any) -> Any:
            try:
                return handle(message)
            except broker_errors:
                raise
            except Exception as error:  # noqa: BLE001  a message's content may break anything
                return consumer.on_invalid_task(None, message, InvalidTaskError(error_text(error)))

        return on_message

    consumer.create_task_handler = create_task_handler
