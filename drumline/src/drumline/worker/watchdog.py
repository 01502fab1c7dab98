"""The watchdog: a thread of the worker's main process that watches that the worker still does what it is for.

What it finds wrong it says, and then it ends the process: the service manager starts that one instance again, and the
relay gives its tasks to others.
"""

import os
import sys
import threading
import time
from collections.abc import Callable
from typing import NoReturn, Protocol
from uuid import UUID

from drumline.broker.depth import queue_depths
from drumline.logs import get_logger
from drumline.systemd import sd_notify

logger = get_logger(__name__)

# Exit status of a worker that ended itself (EX_SOFTWARE).
EXIT_STATUS = 70
# Seconds for which the event loop may stand still before the worker counts as stuck.
STUCK = 60.0
# Looks, and seconds between them, for which messages may wait while the worker has nothing to do.
IDLE_LOOKS, LOOK = 4, 6.0
# Seconds for which the worker's row shows what was missing and is restored.
SHOWN = 60.0


class CeleryWorker(Protocol):
    """What is said of the worker that Celery runs in this process; see `celery_hooks.controller`."""

    name: str
    queues: tuple[str, ...]

    @property
    def running(self) -> int:
        """Return how many tasks run."""

    @property
    def received(self) -> int:
        """Return how many tasks were started, those that run included."""

    def consumed(self) -> list[str]:
        """Return the queues that are consumed now."""

    def held(self) -> set[UUID]:
        """Return the tasks that the worker's main process knows."""


class WatchedWorker(CeleryWorker, Protocol):
    """What the watchdog asks of the worker that Celery runs in this process; see `celery_hooks.controller`."""

    def is_connected(self) -> bool:
        """Return whether the worker has its broker."""

    def is_idle(self) -> bool:
        """Return whether the worker holds no task at all."""

    def runs_in_the_loop(self) -> bool:
        """Return whether a task runs now in the event loop's place."""

    def restore(self) -> list[str]:
        """Take back the queues and the pool that the worker was started with; return what was missing."""


class Watchdog:
    """Watches this process's worker; `end` ends the process, and says why."""

    def __init__(self, celery: WatchedWorker, *, end: Callable[[str], NoReturn]) -> None:
        self.draining = False
        self._celery = celery
        self._end = end
        self._ticked = time.monotonic()
        self._next_look = 0.0
        self._idle_looks, self._done_before = 0, -1
        # When something was first missing, and what was missing last, with the moment.
        self._missing_since: float | None = None
        self._missed, self._missed_at = "", 0.0

    def tick(self) -> None:
        """Tell that the event loop turns, and restore what the worker was started for; called from that loop."""
        self._ticked = time.monotonic()
        if self.draining:
            return
        try:
            missing = self._celery.restore()
        except Exception:
            logger.exception("worker_not_restored")
            missing = [self._missed or "its queues and its pool could not be restored"]
        if not missing:
            self._missing_since = None
            return
        self._missing_since = self._missing_since or self._ticked
        self._missed, self._missed_at = "; ".join(missing), self._ticked
        logger.warning("worker_restores_itself", trouble=self._missed)

    def trouble(self) -> str:
        """Return what was missing and is restored, for a while after it; empty when nothing was."""
        return self._missed if self._missed and time.monotonic() - self._missed_at < SHOWN else ""

    def status(self) -> str:
        """Say which queues are consumed, how many tasks run and how many are done."""
        queues, running = ", ".join(self._celery.queues), self._celery.running
        if self.draining:
            return f"{queues}: draining, {running} running"
        if not self._celery.is_connected():
            return f"{queues}: waiting for the broker, {running} running"
        return f"{queues}: {running} running, {self._celery.received - running} done"

    def watch(self, has_failed: Callable[[], bool] = lambda: False) -> None:
        """Watch from now on, and whether the worker's heartbeat has failed, in a thread that no frozen database holds."""
        threading.Thread(target=self._watch, args=(has_failed,), name="drumline-watchdog", daemon=True).start()

    def _watch(self, has_failed: Callable[[], bool]) -> None:
        while True:
            try:
                self._watch_once(has_failed)
            except Exception:
                logger.exception("worker_watch_failed")
            time.sleep(1)

    def _watch_once(self, has_failed: Callable[[], bool]) -> None:
        """End the process when it is alive and of no use."""
        now = time.monotonic()
        if has_failed():
            self._end("its heartbeat thread has ended")
        if self.draining or not self._celery.is_connected() or self._celery.runs_in_the_loop():
            self._ticked = now
            self._idle_looks = 0
        elif now - self._ticked > STUCK:
            self._end(f"its event loop has been blocked for {STUCK:g} s")
        elif self._missing_since is not None and now - self._missing_since > IDLE_LOOKS * LOOK:
            self._end(f"{self._missed}, repeatedly for {IDLE_LOOKS * LOOK:g} s")
        elif now >= self._next_look:
            self._next_look = now + LOOK
            self._look()
        sd_notify("WATCHDOG=1", f"STATUS={self.status()}")

    def _look(self) -> None:
        done = self._celery.received
        idle = done == self._done_before and self._celery.is_idle()
        self._done_before = done
        self._idle_looks = self._idle_looks + 1 if idle and self._messages_wait() else 0
        if self._idle_looks >= IDLE_LOOKS:
            self._end(f"messages wait, but this worker received none for {IDLE_LOOKS * LOOK:g} s")

    def _messages_wait(self) -> bool:
        try:
            return any(queue_depths(self._celery.queues).values())
        except Exception:  # noqa: BLE001  a broker that does not answer is not the worker's fault
            return False


def leave(why: str) -> NoReturn:
    """End this worker at once; its pool's processes die with it."""
    logger.error("worker_ends_itself", why=why)
    sys.stderr.flush()
    os._exit(EXIT_STATUS)


_watchdog: Watchdog | None = None


def begin(celery: WatchedWorker, *, end: Callable[[str], NoReturn]) -> Watchdog:
    """Make the watchdog of this process's worker."""
    global _watchdog  # noqa: PLW0603  one process is one worker
    _watchdog = Watchdog(celery, end=end)
    return _watchdog


def current() -> Watchdog | None:
    """Return this process's watchdog, in a worker's main process."""
    return _watchdog
