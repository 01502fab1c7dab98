"""The consumer in a worker's event loop: it shows that the loop turns, and no message that it cannot read ends it."""

import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

from celery import bootsteps
from celery.exceptions import InvalidTaskError

from drumline.broker import reserved
from drumline.storable import error_text
from drumline.worker import watchdog

# Seconds between two connections, when the first ended at once.
PAUSE = 2.0


class Pulse(bootsteps.StartStopStep):
    """Shows that the event loop turns. A consumer forgets its timers when it connects again, and starts its steps."""

    requires = ("celery.worker.consumer.connection:Connection",)

    def __init__(self, parent: Any, **kwargs: Any) -> None:
        super().__init__(parent, **kwargs)
        self._stopped = -PAUSE
        drop_what_is_no_request(parent)
        leave_a_lost_connection(parent)

    def start(self, parent: Any) -> None:
        """Beat from now on."""
        parent.timer.call_repeatedly(1.0, self.beat)

    def stop(self, parent: Any) -> None:
        """Wait before the broker is tried again, if the last connection was of no use.

        Celery backs off from a broker that it cannot reach, and not from one that refuses each write: it would fill the
        log with five tracebacks a second.
        """
        if time.monotonic() - self._stopped < PAUSE:
            time.sleep(PAUSE)
        self._stopped = time.monotonic()

    def beat(self) -> None:
        """Tell the watchdog."""
        dog = watchdog.current()
        if dog is not None:
            dog.tick()


def drop_what_is_no_request(consumer: Any) -> None:
    """Have a consumer drop a message that cannot be made a request, with its reason in the log.

    Celery takes each message that names a task for a complete one. An error there is none of the broker's, and Celery
    ends the worker on it.
    """
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


def leave_a_lost_connection(consumer: Any) -> None:
    """Have a consumer that lost Redis leave the old connection as it is, as Celery did before 5.7.

    Celery 5.7.0 closes it after taking it apart. kombu then returns what is not acknowledged through a connection that
    no longer knows its host, and that error ends the worker, in the middle of its tasks.
    """
    on_lost = consumer.on_connection_error_after_connected

    def on_connection_error_after_connected(error: Exception) -> Any:
        # Without the ledger, whose tables a project need not have, nothing is reserved.
        if reserved.tasks():
            import_module("drumline.worker.heartbeat").leave_reserved()
        lost = consumer.connection
        if lost is not None and lost.transport.driver_type == "redis":
            lost.close = lambda: None
        return on_lost(error)

    consumer.on_connection_error_after_connected = on_connection_error_after_connected
