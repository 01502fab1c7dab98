"""READY and WATCHDOG of a worker or a beat that has no ledger: the service manager is told by Celery's own signals."""

import socket
import time
from importlib import import_module
from typing import Any

from celery import Celery, signals
from django.conf import settings
from django.db import DatabaseError

from drumline.celery_hooks import controller, versions
from drumline.celery_hooks.consumer import Pulse
from drumline.hosting import project
from drumline.logs import get_logger
from drumline.systemd import sd_notify
from drumline.worker import watchdog

logger = get_logger(__name__)

PING = "drumline.ping"
# Seconds between two looks of a beat at its schedule, at most: each is a sign of life.
LONGEST_LOOK = 30.0
HEARTBEAT_SECONDS = 10.0
# A service's scheduler that speaks for itself.
OURS = "drumline.beat."


def watch(app: Celery) -> None:
    """Have a worker and a beat of this application say how they are; one with the ledger says so by itself."""
    signals.beat_init.connect(watch_beat, weak=False)
    if _has_ledger():
        return
    signals.celeryd_init.connect(prepare_worker, weak=False)
    signals.worker_ready.connect(begin_life, weak=False)
    signals.worker_shutting_down.connect(report_stopping, weak=False)
    # What a deploy sends to see that a queue is consumed.
    app.task(name=PING, ignore_result=True)(ping)


def ping(seconds: float = 0) -> str:
    """Prove that a queue is consumed; keep the worker busy for so long first."""
    time.sleep(min(max(seconds, 0), 30))
    return socket.gethostname()


def _has_ledger() -> bool:
    return "drumline" in project.application_names(settings.INSTALLED_APPS)


def prepare_worker(instance: Any, **_: Any) -> None:
    """Have the consumer show that its loop turns, before it is built."""
    instance.app.steps["consumer"].add(Pulse)
    for line in versions.untested():
        logger.warning("version_not_tested", reason=line)


def begin_life(sender: Any, **_: Any) -> None:
    """READY only now: the broker is connected and the queues are consumed."""
    if watchdog.current() is not None:
        return
    dog = watchdog.begin(controller.begin(sender.controller), end=watchdog.leave)
    sd_notify("READY=1", f"STATUS={dog.status()}")
    dog.watch()


def report_stopping(**_: Any) -> None:
    """Say that what still runs is being finished."""
    dog = watchdog.current()
    if dog is not None:
        dog.draining = True
        sd_notify("STOPPING=1", f"STATUS={dog.status()}")


def watch_beat(sender: Any, **_: Any) -> None:
    """Have each look of a beat at its schedule be a sign of life, whichever scheduler it has."""
    scheduler = sender.scheduler
    if type(scheduler).__module__.startswith(OURS):
        return
    scheduler.max_interval = min(scheduler.max_interval or LONGEST_LOOK, LONGEST_LOOK)
    scheduler.tick = Tick(scheduler, record=_has_ledger())


class Tick:
    """A scheduler's look at its schedule, after which the service manager, and the ledger, hear of it."""

    def __init__(self, scheduler: Any, *, record: bool) -> None:
        self._scheduler = scheduler
        self._tick = scheduler.tick
        self._record = record
        self._recorded = 0.0

    def __call__(self, *args: Any, **kwargs: Any) -> float:
        """Look, then report; return the seconds until the next look."""
        wait: float = self._tick(*args, **kwargs)
        if self._record and time.monotonic() - self._recorded > HEARTBEAT_SECONDS:
            self._recorded = time.monotonic()
            try:
                import_module("drumline.health.heartbeats").heartbeat_write(name="beat")
            except DatabaseError as error:
                logger.warning("beat_database_unavailable", error=str(error))
        sd_notify("READY=1", "WATCHDOG=1", f"STATUS={len(self._scheduler.schedule)} entries")
        return min(wait, HEARTBEAT_SECONDS if self._record else LONGEST_LOOK)
