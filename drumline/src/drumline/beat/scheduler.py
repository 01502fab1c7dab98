"""The scheduler that beat runs: each due run is claimed, and its task enters the ledger, in one transaction.

Any number of beats may run. Which of them claims a run, the row's lock decides; that a run is claimed once, its last
run's time decides; and a run has an id of its own, made of the entry and the due time.
"""

import time
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

from django.db import (
    DatabaseError,
    InterfaceError,
    OperationalError,
    close_old_connections,
    connection,
    transaction,
)
from django.db.models import F, QuerySet
from django_celery_beat.models import PeriodicTask, PeriodicTasks
from django_celery_beat.schedulers import DatabaseScheduler, ModelEntry
from kombu.utils.json import loads

from drumline.beat.due import ScheduleError, latest_due, next_due
from drumline.beat.models import MissedRuns
from drumline.beat.schedule import schedule_sync
from drumline.health.heartbeats import heartbeat_write
from drumline.ledger.locking import skipping_locked
from drumline.logs import get_logger
from drumline.storable import error_text
from drumline.systemd import sd_notify

logger = get_logger(__name__)

HEARTBEAT_SECONDS = 10.0
# Seconds until a run that could not be sent is tried again.
RETRY = timedelta(seconds=5)
# It waits twice as long after each failure, up to this.
LONGEST_RETRY = timedelta(minutes=5)
# The same for a run that another beat was about to send; that one may die before the next.
LOCKED = timedelta(seconds=0.5)
# The clock was set when it moves by more than this against the time that passes, in seconds.
STEP = 10.0
NEVER = datetime.max.replace(tzinfo=UTC)
# A run that is later than this was missed.
GRACE = timedelta(seconds=60)
# What the database says when it is away, and not of one row.
OUTAGES = (OperationalError, InterfaceError)
RUNS = UUID("4f1d7c1e-4f0b-4d53-9a0e-5d1b6f0a2c11")


class Entry(ModelEntry):  # type: ignore[misc]  # the library ships no types
    """An enabled periodic task, and when it is due next."""

    def __init__(self, model: PeriodicTask, app: Any = None) -> None:
        # The library would switch the entry off, or fail later, at the first run.
        _check(model)
        last, now = model.last_run_at, datetime.now(UTC)
        super().__init__(model, app=app)
        due = next_due(self.schedule, last=last, saved=model.date_changed, start=model.start_time, now=now)
        self.due = due if due and not (model.expires and due >= model.expires) else NEVER
        # When to look at it again: when it is due, or later when that look was in vain.
        self.next_look = self.due
        self.failures = 0


def _check(model: PeriodicTask) -> None:
    """Raise ValueError for a row that could not be sent."""
    if model.scheduler is None:
        raise ScheduleError("it has no schedule")
    for field, kind in (("args", list), ("kwargs", dict), ("headers", dict)):
        text = getattr(model, field)
        if text and not isinstance(loads(text), kind):
            raise ValueError(f"its {field} are not a JSON {'list' if kind is list else 'object'}")


class Scheduler(DatabaseScheduler):  # type: ignore[misc]  # the library ships no types
    """Sends each due run once, through an outage of the database and beside other beats, and says how it is doing."""

    Entry = Entry
    _ready = False
    # Entries that cannot be read, by name.
    _broken: dict[str, str] | None = None
    _heartbeat_due = 0.0
    _clock = time.time() - time.monotonic()

    def setup_schedule(self) -> None:
        """Sync the code's entries; the stock one would overwrite what an operator gave the same name."""
        schedule_sync(app=self.app)

    def schedule_changed(self) -> bool:
        """Return whether an entry was saved since the schedule was read.

        The stock method takes its first look for unchanged, and misses what was saved since the schedule was read.
        """
        return bool(self.Changes.last_change() != self._last_timestamp)

    def enabled_models_qs(self) -> QuerySet[PeriodicTask]:
        """Consider every enabled entry.

        The stock query leaves out crontabs more than two hours away, and so never runs one that was missed while
        beat was down for longer.
        """
        enabled: QuerySet[PeriodicTask] = PeriodicTask.objects.filter(enabled=True)
        return enabled.select_related("crontab", "interval", "clocked", "solar", "missed_runs")

    def all_as_schedule(self) -> dict[str, Any]:
        """Return the enabled entries; one that cannot be read is logged and left out, and no other waits for it."""
        # Before the rows: what is saved meanwhile is read again, and not missed.
        self._last_timestamp = self.Changes.last_change()
        entries: dict[str, Any] = {}
        broken: dict[str, str] = {}
        for row in self._rows(broken):
            try:
                entries[row.name] = Entry(row, app=self.app)
            except OUTAGES:
                raise
            except Exception as error:  # noqa: BLE001  a row written by SQL may hold anything
                broken[row.name] = error_text(error)
        for name, why in broken.items():
            logger.error("entry_broken", entry=name, error=why, hint="correct the entry in the admin, or with SQL")
        self._broken = broken
        return entries

    def _rows(self, broken: dict[str, str]) -> list[PeriodicTask]:
        rows = self.enabled_models_qs()
        try:
            return list(rows)
        except OUTAGES:
            raise
        except Exception:  # noqa: BLE001  one of them holds what Python cannot read: a time zone, the year 20000
            found = []
        for key in rows.values_list("pk", flat=True):
            try:
                found.append(rows.get(pk=key))
            except PeriodicTask.DoesNotExist:
                continue
            except OUTAGES:
                raise
            except Exception as error:  # noqa: BLE001  as above
                name = str(PeriodicTask.objects.values_list("name", flat=True).get(pk=key))
                broken[name] = error_text(error)
        return found

    def tick(self, *_args: Any, **_kwargs: Any) -> float:
        """Send what is due, then report; return the seconds until the next look."""
        try:
            wait = self._send_due()
            self._write_heartbeat()
        except (DatabaseError, InterfaceError) as error:
            logger.warning("beat_database_unavailable", error=str(error))
            close_old_connections()
            sd_notify("WATCHDOG=1", "STATUS=waiting for the database")
            return float(self.max_interval)
        self._report()
        return wait

    def sync(self) -> None:
        """Write nothing: a run is written when it is claimed."""

    def close(self) -> None:
        """Say that beat stops."""
        sd_notify("STOPPING=1")
        super().close()

    def _send_due(self) -> float:
        entries, now = self._entries(), datetime.now(UTC)
        for name, entry in sorted(entries.items(), key=lambda pair: pair[1].next_look):
            if entry.next_look > now:
                break
            entries[name] = self._claim(entry, now)
        soonest = min((entry.next_look for entry in entries.values()), default=NEVER)
        # Never longer than the loop interval, so that the heartbeat stays fresh and a change is seen.
        return min(max((soonest - datetime.now(UTC)).total_seconds(), 0.0), float(self.max_interval))

    def _entries(self) -> dict[str, Any]:
        step = time.time() - time.monotonic() - self._clock
        if abs(step) > STEP:
            logger.warning("clock_set", seconds=round(step))
            self._clock += step
            self._schedule = self.all_as_schedule()
        entries: dict[str, Any] = self.schedule
        return entries

    def _claim(self, entry: Any, now: datetime) -> Any:
        """Send one run, unless another beat did; return the entry as it is now."""
        try:
            with transaction.atomic():
                locked = self._lock(entry)
                if locked is None:
                    # Another beat has it, or it is gone; the row tells next time.
                    return self._later(entry, LOCKED)
                current = Entry(locked, app=self.app)
                return current if current.due > now else self._run(current, now)
        except Exception as error:
            if isinstance(error, (DatabaseError, InterfaceError)) and not connection.is_usable():
                raise
            logger.exception("run_not_sent", entry=entry.name, task=entry.task)
            wait = min(RETRY * 2**entry.failures, LONGEST_RETRY)
            entry.failures = min(entry.failures + 1, 10)
            return self._later(entry, wait)

    def _lock(self, entry: Any) -> PeriodicTask | None:
        row: PeriodicTask | None = skipping_locked(PeriodicTask.objects.filter(pk=entry.model.pk, enabled=True)).first()
        return row

    def _later(self, entry: Any, wait: timedelta) -> Any:
        entry.next_look = datetime.now(UTC) + wait
        return entry

    def _run(self, entry: Any, now: datetime) -> Any:
        """Send the run that the policy for missed ones asks for, and advance the entry."""
        row, due = entry.model, entry.due
        policy = getattr(getattr(row, "missed_runs", None), "policy", MissedRuns.Policy.ONCE)
        if policy != MissedRuns.Policy.ALL:
            due = latest_due(entry.schedule, due, now)
        skipped = policy == MissedRuns.Policy.SKIP and now - due > GRACE
        if not skipped:
            self._send(entry, due)
        changes: dict[str, Any] = {"last_run_at": due, "total_run_count": F("total_run_count") + int(not skipped)}
        if row.one_off:
            changes["enabled"] = False
        PeriodicTask.objects.filter(pk=row.pk).update(**changes)
        logger.info("run_skipped" if skipped else "run_sent", entry=entry.name, due=due.isoformat())
        row.last_run_at = due
        if row.one_off:
            # The other beats read the schedule again, and this one too.
            PeriodicTasks.update_changed()
        return Entry(row, app=self.app)

    def _send(self, entry: Any, due: datetime) -> None:
        task_id = str(uuid5(RUNS, f"{entry.model.pk} {due.isoformat()}"))
        task = self.app.tasks.get(entry.task)
        if task is None:
            self.app.send_task(entry.task, entry.args, entry.kwargs, task_id=task_id, **entry.options)
        else:
            task.apply_async(entry.args, entry.kwargs, task_id=task_id, **entry.options)

    def _write_heartbeat(self) -> None:
        if time.monotonic() >= self._heartbeat_due:
            heartbeat_write(name="beat")
            self._heartbeat_due = time.monotonic() + HEARTBEAT_SECONDS

    def _report(self) -> None:
        broken = f", cannot read: {', '.join(sorted(self._broken))}" if self._broken else ""
        status = f"STATUS={len(self._schedule)} entries{broken}"[:1000]
        if self._ready:
            sd_notify("WATCHDOG=1", status)
        else:
            self._ready = sd_notify("READY=1", "WATCHDOG=1", status)
