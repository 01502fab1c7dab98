"""A task's message as Celery would publish it, in a form that the ledger keeps and any relay can publish later."""

import time
from dataclasses import dataclass
from datetime import UTC, date, datetime
from datetime import time as midnight
from functools import cache
from hashlib import sha1
from typing import Any
from uuid import NAMESPACE_OID, UUID

from celery import Celery
from kombu.compression import get_encoder
from kombu.exceptions import ContentDisallowed
from kombu.serialization import dumps as kombu_dumps
from kombu.serialization import prepare_accept_content

from drumline import storable
from drumline.application import application

# What only the sender's own call to the broker needs.
TRANSIENT = {"retry", "retry_policy", "declare", "timeout", "confirm_timeout", "serializer"}
PERSISTENT = 2

# By kombu, whatever CELERY_ACCEPT_CONTENT says.
ALWAYS_ACCEPTED = {"application/data", "application/text"}
# Characters of a name or an id that a column holds; the message itself has all of them.
COLUMN = 255
SMALLINT, INTEGER = 2**15 - 1, 2**31 - 1


class NotTextError(TypeError):
    """A durable task's arguments are in a binary format."""


def ledger_id(task_id: Any) -> UUID:
    """Return the ledger's key for a Celery task id, which is a UUID unless the sender chose another."""
    if isinstance(task_id, UUID):
        return task_id
    text = str(task_id)
    try:
        return UUID(text)
    except ValueError:
        # As uuid5 does it, which refuses a lone surrogate.
        digest = sha1(NAMESPACE_OID.bytes + text.encode("utf-8", "surrogatepass"), usedforsecurity=False).digest()
        return UUID(bytes=digest[:16], version=5)


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
    def capture(cls, body: Any, *, queue: str, **options: Any) -> "Message":
        """Make a message of what Celery hands to a producer; see `kombu.Producer.publish` for the options.

        What could not be published or read later is an error now: before anything is written.
        """
        content_type, content_encoding, text = kombu_dumps(body, options.get("serializer"))
        headers = options.pop("headers")
        if not isinstance(text, str):
            raise NotTextError(
                f"The arguments of {headers['task']} are serialised as {content_type}, which is not text. "
                "Set CELERY_TASK_SERIALIZER to json, or send the task with durable=False"
            )
        if not text.isascii():
            text.encode(content_encoding)
        if options.get("compression"):
            get_encoder(options["compression"])
        _refuse_unread(content_type, headers["task"])
        exchange = options.pop("exchange", "") or ""
        routing_key = options.pop("routing_key", "") or ""
        if options.get("delivery_mode") == PERSISTENT:
            del options["delivery_mode"]
        return cls(
            body=text,
            content_type=content_type,
            content_encoding=content_encoding,
            headers=headers,
            properties={key: value for key, value in options.items() if value is not None and key not in TRANSIENT},
            exchange=getattr(exchange, "name", exchange),
            routing_key=routing_key,
            queue=queue,
        )

    @property
    def id(self) -> UUID:
        """Return the row's key."""
        return ledger_id(self.headers["id"])

    def published_headers(self) -> dict[str, Any]:
        """Return the headers to publish now. The ledger has waited; a worker must not wait again by its own clock."""
        return {**self.headers, "eta": None, "published": time.time()}

    @property
    def due_at(self) -> datetime | None:
        """Return when it may run; None is at once."""
        return _time(self.headers, "eta")

    @property
    def expires_at(self) -> datetime | None:
        """Return when it is not worth running any more."""
        return _time(self.headers, "expires")

    @property
    def generation(self) -> int:
        """Return how often the task was replaced by another under the same id."""
        return _integer(self.headers.get("replaced_task_nesting"), SMALLINT)

    def columns(self, *, strict: bool = False) -> dict[str, Any]:
        """Return what the row says of the message, in a form that every database takes. See `dumps`."""
        headers = self.headers
        return {
            # As Celery's logs and events name it; the message's header `task` is what a worker looks up.
            "name": _column(headers.get("shadow") or headers["task"]),
            "queue": _column(self.queue),
            "priority": _integer(self.properties.get("priority"), SMALLINT),
            "message": self.dumps(strict=strict),
            "expires_at": self.expires_at,
            "retries": _integer(headers.get("retries"), INTEGER),
            "generation": self.generation,
            "parent_id": _column(headers.get("parent_id")),
            "root_id": _column(headers.get("root_id")),
        }

    def dumps(self, *, strict: bool = False) -> str:
        """Return the form that the ledger keeps; if `strict`, raise TypeError for what kombu would not publish."""
        encode = storable.encode_strictly if strict else storable.encode
        return encode({name: getattr(self, name) for name in self.__slots__})

    @classmethod
    def loads(cls, text: str) -> "Message":
        """Return the message that `dumps` made the text of."""
        return cls(**storable.decode(text))


def _refuse_unread(content_type: str, name: str) -> None:
    accepted = _accepted(application())
    if accepted is None or content_type in accepted:
        return
    raise ContentDisallowed(
        f"The arguments of {name} are serialised as {content_type}, which is not in CELERY_ACCEPT_CONTENT, so "
        "no worker would accept them. Add it there, or use another serializer"
    )


@cache
def _accepted(app: Celery) -> frozenset[str] | None:
    """Return the content types that a worker reads, once a process; None is all."""
    accepted = app.conf.accept_content
    return None if accepted is None else frozenset({*ALWAYS_ACCEPTED, *(prepare_accept_content(accepted) or ())})


def _column(value: Any) -> str:
    return "" if value is None else storable.text(value, limit=COLUMN)


def _integer(value: Any, most: int) -> int:
    """Return a number that fits a column; 0 for a value that is not a number, as in kombu."""
    try:
        return max(-most, min(int(value), most))
    except (TypeError, ValueError, OverflowError):
        return 0


def _time(headers: dict[str, Any], name: str) -> datetime | None:
    value = headers.get(name)
    if not value:
        return None
    return moment(value)


def moment(value: datetime | date | str) -> datetime:
    """Return the moment that a stock worker takes this for: there, a time without a zone is UTC.

    Raise ValueError for what is not a time.
    """
    try:
        value = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        raise ValueError(f"{value!r} is not a time. Use a datetime or an ISO 8601 string") from None
    if not isinstance(value, datetime):
        value = datetime.combine(value, midnight.min)
    if value.tzinfo is None:
        value = value.replace(tzinfo=UTC)
    try:
        return value.astimezone(UTC)
    except OverflowError:
        # The first and the last day that there is, in another time zone.
        return value.replace(tzinfo=UTC)
