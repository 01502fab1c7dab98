"""A task's message as Celery would publish it, in a form that the ledger keeps and any relay can publish later."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import NAMESPACE_OID, UUID, uuid5

from kombu.serialization import dumps as kombu_dumps

from drumline.ledger import storable

# What only the sender's own call to the broker needs.
TRANSIENT = {"retry", "retry_policy", "declare", "timeout", "confirm_timeout", "delivery_mode", "serializer"}


class NotTextError(TypeError):
    """A durable task's arguments are in a binary format."""


def ledger_id(task_id: str) -> UUID:
    """Return the ledger's key for a Celery task id, which is a UUID unless the sender chose another."""
    try:
        return UUID(task_id)
    except ValueError:
        return uuid5(NAMESPACE_OID, task_id)


@dataclass(frozen=True, slots=True)
class Message:
    """What is published: the encoded body, headers and properties, and where to."""

    body: str
    content_type: str
    content_encoding: str
    headers: dict[str, Any]
    properties: dict[str, Any]
    exchange: str
    routing_key: str
    queue: str

    @classmethod
    def capture(cls, body: Any, **options: Any) -> "Message":
        """Make a message of what Celery hands to a producer; see `kombu.Producer.publish` for the options."""
        content_type, content_encoding, text = kombu_dumps(body, options.get("serializer"))
        if not isinstance(text, str):
            raise NotTextError(
                f"The arguments of {options['headers']['task']} are serialised as {content_type}, which is not text; "
                "set CELERY_TASK_SERIALIZER to json, or send the task with durable=False"
            )
        exchange = options.pop("exchange", "") or ""
        routing_key = options.pop("routing_key", "") or ""
        declare = options.get("declare") or ()
        headers = options.pop("headers")
        return cls(
            body=text,
            content_type=content_type,
            content_encoding=content_encoding,
            headers=headers,
            properties={key: value for key, value in options.items() if value is not None and key not in TRANSIENT},
            exchange=getattr(exchange, "name", exchange),
            routing_key=routing_key,
            queue=declare[0].name if declare else routing_key,
        )

    @property
    def id(self) -> UUID:
        """Return the row's key."""
        return ledger_id(self.headers["id"])

    @property
    def due_at(self) -> datetime | None:
        """Return when it may run; None is at once."""
        return _time(self.headers.get("eta"))

    @property
    def expires_at(self) -> datetime | None:
        """Return when it is not worth running any more."""
        return _time(self.headers.get("expires"))

    @property
    def generation(self) -> int:
        """Return how often the task was replaced by another under the same id."""
        return int(self.headers.get("replaced_task_nesting") or 0)

    def as_json(self) -> dict[str, Any]:
        """Return the form that the ledger keeps, before it is made text."""
        return {name: getattr(self, name) for name in self.__slots__}

    def dumps(self) -> str:
        """Return the form that the ledger keeps."""
        return storable.encode(self.as_json())

    @classmethod
    def loads(cls, text: str) -> "Message":
        """Return the message that `dumps` made the text of."""
        return cls(**storable.decode(text))


def _time(iso: str | None) -> datetime | None:
    return datetime.fromisoformat(iso) if iso else None
