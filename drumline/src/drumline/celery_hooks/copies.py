"""Messages that differ from an earlier one only in their id and their arguments, made without going through Celery again.

Celery makes each message from the beginning: the task's options, its route, its queue. In a group, and in `send_many`, all of
that is the same for one member after the other.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from celery import Celery, signals
from celery.app.routes import MapRoute
from celery.utils.saferepr import saferepr

from drumline.message import TRANSIENT, Message

# What Celery sets of a message's headers; whatever else there is was added by a receiver of `before_task_publish`, which is
# called for each copy.
HEADERS = {
    *("lang", "task", "id", "shadow", "eta", "expires", "group", "group_index", "retries", "timelimit", "root_id"),
    *("parent_id", "argsrepr", "kwargsrepr", "origin", "ignore_result", "replaced_task_nesting", "stamped_headers"),
    "stamps",
}
# What a producer is given besides the properties of the message.
OF_THE_CALL = TRANSIENT | {"exchange", "routing_key", "compression", "delivery_mode", "headers"}
# What `send_task` is given for one task alone.
OF_ONE_TASK = {"task_id", "group_index", "producer"}
# Options with which a copy would not be the same, as one that counts from now.
NEVER = {
    "expires",
    "chord",
    "link",
    "link_error",
    "headers",
    "shadow",
    "argsrepr",
    "kwargsrepr",
    "stamped_headers",
    "chain",
}
# Options that are objects, and the same ones for each call of a task.
OBJECTS = {"task_type", "result_cls"}

NUMBERS = {int, float, bool, type(None)}
# Characters that Python and Celery quote in different ways.
QUOTED = {"'", "\\"}

Options = dict[str, Any]


def alike(name: str, countdown: Any, eta: Any, options: Options) -> Options | None:
    """Return what the call of one task must share with that of another to be its copy; None when it has no copies."""
    if countdown or eta or any(options.get(option) is not None for option in NEVER):
        return None
    shared = {option: value for option, value in options.items() if option not in OF_ONE_TASK}
    # Anything else may be changed after this call.
    plain = (str, int, float, bool, type(None))
    if not all(isinstance(value, plain) or option in OBJECTS for option, value in shared.items()):
        return None
    return {"name": name, **shared}


def makes_copies(app: Celery) -> bool:
    """Return whether nothing of a message depends on its arguments but these."""
    router: Any = app.amqp.router
    return (
        all(isinstance(route, MapRoute) for route in router.routes)
        and not app.conf.task_send_sent_event
        and not app.conf.task_always_eager
    )


def shown(arguments: Any, limit: int) -> str:
    """Return what Celery's `saferepr` makes of arguments, without its walk where that is what Python writes."""
    values = [*arguments, *arguments.values()] if type(arguments) is dict else arguments
    if type(arguments) in {tuple, list, dict} and all(map(_is_plain, values)):
        written = repr(arguments)
        if len(written) < limit:
            return written
    return saferepr(arguments, limit)


def _is_plain(value: Any) -> bool:
    return type(value) in NUMBERS or (type(value) is str and value.isprintable() and not QUOTED.intersection(value))


class First:
    """The message that others are copies of, as Celery gave it to its producer."""

    def __init__(self, body: Any, *, queue: str, shared: Options, options: Options) -> None:
        headers = options["headers"]
        self.shared = shared
        self._queue = queue
        self._embedded = body[2]
        self._headers = {name: value for name, value in headers.items() if name in HEADERS}
        self._is_root = headers["root_id"] == headers["id"]
        self._call = {name: value for name, value in options.items() if name in OF_THE_CALL and name != "headers"}
        self._properties = {name: value for name, value in options.items() if name not in OF_THE_CALL}

    def copy(
        self, app: Celery, task_id: str, args: Sequence[Any], kwargs: Mapping[str, Any], group_index: int | None
    ) -> Message:
        """Return the message of another task, and tell whoever wants to know of it."""
        amqp: Any = app.amqp
        body = (args, kwargs, self._embedded)
        headers = {
            **self._headers,
            "id": task_id,
            "group_index": group_index,
            "argsrepr": shown(args, amqp.argsrepr_maxsize),
            "kwargsrepr": shown(kwargs, amqp.kwargsrepr_maxsize),
        }
        if self._is_root:
            headers["root_id"] = task_id
        properties = {**self._properties, "correlation_id": task_id}
        name, call = self.shared["name"], self._call
        where = {"exchange": call.get("exchange"), "routing_key": call.get("routing_key")}
        if signals.before_task_publish.receivers:
            about = {"declare": call.get("declare"), "properties": properties, "retry_policy": None}
            signals.before_task_publish.send(sender=name, body=body, headers=headers, **where, **about)
        headers["durable"] = True
        message = Message.capture(body, queue=self._queue, headers=headers, **call, **properties)
        if signals.after_task_publish.receivers:
            signals.after_task_publish.send(sender=name, body=body, headers=headers, **where)
        return message
