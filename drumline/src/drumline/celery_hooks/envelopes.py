"""What a worker fetches from its list and that is no message: it is logged and dropped, and does not end the worker.

kombu's Redis transport takes each entry for JSON with its own keys. An error there is none of the broker's, and Celery
ends the worker on it.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import Any
from uuid import uuid4

from kombu.transport import virtual
from kombu.utils.json import loads

from drumline.logs import get_logger
from drumline.storable import error_text

logger = get_logger(__name__)


class Envelope(virtual.Message):
    """A message of the Redis transport. An entry that is not a message becomes one without a task, which Celery logs and drops."""

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
