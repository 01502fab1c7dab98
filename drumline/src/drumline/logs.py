"""Log lines of the package: the standard library's `logging`, and no configuration of it."""

import logging
from collections.abc import MutableMapping
from typing import Any

ARGUMENTS = ("exc_info", "stack_info", "stacklevel", "extra")


class EventLogger(logging.LoggerAdapter[logging.Logger]):
    """Logs an event with named values: `logger.warning("worker_dead", worker=name)`.

    The line reads `worker_dead worker=…` under any formatter. A formatter that writes fields finds the values, and the
    bare event under `event`, as attributes of the record, as `extra=` puts them there.
    """

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Turn the values into the record's attributes and into the end of its message."""
        values = {name: kwargs.pop(name) for name in list(kwargs) if name not in ARGUMENTS}
        kwargs["extra"] = {**(kwargs.get("extra") or {}), **values, "event": msg}
        text = " ".join([str(msg), *(f"{name}={value}" for name, value in values.items())])
        return text, kwargs


def get_logger(name: str) -> EventLogger:
    """Return the logger of a module."""
    return EventLogger(logging.getLogger(name), {})
