"""Waiting for the ledger to ring: LISTEN on PostgreSQL, and a pause behind a pooler and anywhere else."""

import time
from importlib import import_module
from typing import TYPE_CHECKING, Any

from django.db import connection

from drumline.ledger.pooling import is_pooled
from drumline.ledger.store import CHANNEL

if TYPE_CHECKING:
    import psycopg


class Listener:
    """Ends a wait early when a sender or a service says that there is something to do."""

    def __init__(self) -> None:
        self._connection: psycopg.Connection[Any] | None = None

    def wait(self, seconds: float) -> None:
        """Return after so many seconds, or as soon as the ledger rings."""
        if connection.vendor != "postgresql":
            self.pause(seconds)
            return
        with connection.wrap_database_errors:
            if is_pooled():
                # The session that listens would serve others, and hear nothing.
                self.pause(seconds)
                return
            if self._connection is None:
                driver = import_module("psycopg")
                params = connection.get_connection_params() | {"cursor_factory": driver.Cursor, "autocommit": True}
                self._connection = driver.connect(**params)
                self._connection.execute(f"LISTEN {CHANNEL}")
                # What rang before this was not heard.
                return
            for _ in self._connection.notifies(timeout=seconds, stop_after=1):
                pass

    def pause(self, seconds: float) -> None:
        """Return after so many seconds."""
        time.sleep(seconds)

    def close(self) -> None:
        """Forget the connection after an error."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
