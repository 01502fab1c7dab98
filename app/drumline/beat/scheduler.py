"""The scheduler that beat runs: django-celery-beat's, with a heartbeat that systemd and the database see."""

import time
from typing import Any

import structlog
from django.db import DatabaseError, InterfaceError, close_old_connections
from django.db.models import QuerySet
from django_celery_beat.models import PeriodicTask
from django_celery_beat.schedulers import DatabaseScheduler

from drumline.beat.schedule import schedule_sync
from drumline.health.heartbeats import heartbeat_write
from drumline.worker.notify import sd_notify

logger = structlog.get_logger(__name__)

HEARTBEAT_SECONDS = 10.0


class Scheduler(DatabaseScheduler):  # type: ignore[misc]  # the library ships no types
    """Ticks through a database outage instead of dying of it, and says all the time how it is doing."""

    _ready = False
    _heartbeat_due = 0.0

    def setup_schedule(self) -> None:
        """Sync the code's entries; the stock one would overwrite what an operator gave the same name."""
        schedule_sync(app=self.app)

    def enabled_models_qs(self) -> QuerySet[PeriodicTask]:
        """Consider every enabled entry.

        The stock query leaves out crontabs more than two hours away, and so never runs one that was missed while
        beat was down for longer.
        """
        enabled: QuerySet[PeriodicTask] = PeriodicTask.objects.filter(enabled=True)
        return enabled

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Send what is due, then report; return the seconds until the next look."""
        try:
            wait = float(super().tick(*args, **kwargs))
            self._write_heartbeat()
        except (DatabaseError, InterfaceError) as error:
            logger.warning("beat_database_unavailable", error=str(error))
            close_old_connections()
            sd_notify("WATCHDOG=1", "STATUS=waiting for the database")
            return float(self.max_interval)
        self._report()
        # Never longer than the loop interval, so that the heartbeat stays fresh with an empty schedule.
        return min(wait, float(self.max_interval))

    def close(self) -> None:
        """Say that beat stops, and write the last run times."""
        sd_notify("STOPPING=1")
        super().close()

    def _write_heartbeat(self) -> None:
        if time.monotonic() >= self._heartbeat_due:
            heartbeat_write(name="beat")
            self._heartbeat_due = time.monotonic() + HEARTBEAT_SECONDS

    def _report(self) -> None:
        status = f"STATUS={len(self.schedule)} entries"
        if self._ready:
            sd_notify("WATCHDOG=1", status)
        else:
            self._ready = sd_notify("READY=1", "WATCHDOG=1", status)
