"""Claims: a worker's process claims the row before the task starts, and closes it after the end.

A message only rings: whoever does not get the row acknowledges and leaves, so a second delivery is harmless whatever
its cause. Claims and closes have a connection of their own that does not wait for the disk: losing one of them means
that a task runs again, never that one is lost. The task's own writes are not touched.
"""

import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any
from uuid import UUID

from django.db import DatabaseError, InterfaceError

from drumline import storable
from drumline.ledger.outages import is_unavailable
from drumline.ledger.store import RunKey, Store, store
from drumline.logs import get_logger
from drumline.worker.identity import current_id

logger = get_logger(__name__)

# How long a close may wait for company before it is written alone, in seconds.
LINGER = 0.1
# How long a process waits for the database before it gives the message back, in seconds.
PATIENCE = 20.0

FAILURES = (DatabaseError, InterfaceError)


@dataclass(frozen=True, slots=True)
class End:
    """An end other than success that is to be written; `known` says that Celery has stored and announced it."""

    run: RunKey
    worker_id: UUID
    write: Callable[[Store, UUID], None]
    known: bool


class Claims:
    """What this process claimed, and the closes that wait to be written with the next one."""

    def __init__(self) -> None:
        self._store = store()
        self._lock = threading.Lock()
        self._finished: list[RunKey] = []
        self._others: deque[End] = deque()
        self._pending = threading.Event()
        threading.Thread(target=self._write_what_lingers, name="drumline-closes", daemon=True).start()

    def claim(self, task_id: UUID, published: float) -> RunKey | None:
        """Take the row and return the run's key; None when the task is done, running elsewhere or discarded.

        `published` is when the message that rang was sent, in seconds since the epoch by its sender's clock. An error is raised after PATIENCE seconds without a database.
        """
        deadline = time.monotonic() + PATIENCE
        while True:
            with self._lock:
                try:
                    run = self._store.claim(task_id, published, current_id(), self._finished)
                except FAILURES:
                    self._store.reconnect()
                    if time.monotonic() > deadline:
                        raise
                else:
                    self._finished = []
                    return run
            time.sleep(0.5)

    def finished(self, run: RunKey) -> None:
        """Close the row, with the next claim or soon."""
        with self._lock:
            self._finished.append(run)
        self._pending.set()

    def ended(self, run: RunKey, write: Callable[[Store, UUID], None], *, known: bool = False) -> None:
        """Write another end of a run now, or as soon as the database answers. See `End`."""
        with self._lock:
            self._others.append(End(run, current_id(), write, known))
        if not self.flush():
            self._pending.set()

    def flush(self) -> bool:
        """Write what waits; return whether nothing is left. It never raises, and no end holds another."""
        with self._lock:
            try:
                if self._finished:
                    self._store.finish(current_id(), self._finished)
                    self._finished = []
            except Exception as error:  # noqa: BLE001  ids and numbers have no content to be refused for
                self._forget_connection(error)
                if is_unavailable(error):
                    return False
            for _ in range(len(self._others)):
                end = self._others.popleft()
                try:
                    self._write(end)
                except Exception as error:  # noqa: BLE001  see `_write`
                    # Behind the others: what fails for another reason than an outage must not hold them.
                    self._others.append(end)
                    self._forget_connection(error)
                    break
            return not self._finished and not self._others

    def _write(self, end: End) -> None:
        """Write an end, or a plain failure in place of one that is refused; raise when the database is away."""
        try:
            end.write(self._store, end.worker_id)
        except Exception as error:
            if is_unavailable(error):
                raise
            refused = f"EndRefusedError: the end of this run could not be stored ({storable.error_text(error)})"
            logger.exception("end_refused", task_id=str(end.run.task_id), error=refused)
            try:
                self._store.fail(end.worker_id, end.run, refused, traceback.format_exc(), announce=not end.known)
            except Exception as again:
                if is_unavailable(again):
                    raise
                # The worker takes the task back as one whose process died.
                logger.exception("end_dropped", task_id=str(end.run.task_id))

    def _forget_connection(self, error: Exception) -> None:
        logger.warning("ledger_unavailable", error=storable.error_text(error))
        try:
            self._store.reconnect()
        except Exception:
            logger.exception("ledger_connection_not_closed")

    def _write_what_lingers(self) -> None:
        while True:
            try:
                self._pending.wait()
                self._pending.clear()
                time.sleep(LINGER)
                while not self.flush():
                    time.sleep(1)
            except Exception:
                # Without this thread nothing would close what a process ran last.
                logger.exception("closing_thread_failed")
                self._pending.set()
                time.sleep(1)


@cache
def claims() -> Claims:
    """Return this process's claims; they begin after the fork, with a connection and a thread of their own."""
    return Claims()


def close_before_leaving(**_: Any) -> None:
    """Write what waits; without it the tasks would run again."""
    if claims.cache_info().currsize:
        claims().flush()
