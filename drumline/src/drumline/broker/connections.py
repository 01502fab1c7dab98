"""Options of the connections to the broker that an application's settings do not name."""

from collections.abc import Callable
from typing import Any

from celery import Celery

Options = dict[str, Any]


class Completed:
    """Makes connections for an application, with options that are completed first."""

    def __init__(self, make: Callable[..., Any], complete: Callable[[Options], Options]) -> None:
        self._make = make
        self.complete = complete

    def __call__(self, *args: Any, transport_options: Options | None = None, **kwargs: Any) -> Any:
        """Return a connection."""
        return self._make(*args, transport_options=self.complete(transport_options or {}), **kwargs)


def complete(app: Celery, options: Callable[[Options], Options]) -> None:
    """Have each connection of this application made with completed options.

    `broker_transport_options` stays what the project set: its own checks may compare it.
    """
    amqp: Any = app.amqp
    amqp.Connection = Completed(amqp.Connection, options)


def transport_options(app: Celery) -> Options:
    """Return the options with which this application connects."""
    own = dict(app.conf.broker_transport_options or {})
    make: Any = app.amqp.Connection
    return make.complete(own) if isinstance(make, Completed) else own
