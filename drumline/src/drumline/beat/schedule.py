"""The code's schedule, synced to the tables where operators keep theirs.

The code owns its entries' task, time, arguments, queue, expiry and what becomes of missed runs
(`options={"missed": "all"}`); the operator owns `enabled`. An entry that left the code is deleted. What an operator added is never
touched, not even when the code later wants the same name.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from celery import Celery
from celery.schedules import maybe_schedule, schedule
from django.db import InterfaceError, OperationalError, transaction
from django_celery_beat.models import IntervalSchedule, PeriodicTask
from django_celery_beat.schedulers import ModelEntry

from drumline.beat.due import check_schedule
from drumline.beat.models import CodeScheduleEntry, MissedRuns
from drumline.logs import get_logger
from drumline.message import INTEGER, moment

logger = get_logger(__name__)

# The options that a row of django-celery-beat holds, and Drumline's own.
HELD = {"exchange", "expire_seconds", "headers", "missed", "priority", "queue", "routing_key"}


@dataclass(slots=True)
class Synced:
    """What a sync did, by entry name."""

    created: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    # What the code says of them cannot be scheduled; the log has the reason.
    broken: list[str] = field(default_factory=list)


class CodeEntry(ModelEntry):  # type: ignore[misc]  # the library ships no types
    """Takes an interval with a part of a second, which the library cuts to whole ones: half a second to none."""

    @classmethod
    def to_model_schedule(cls, entry: Any) -> tuple[Any, str]:
        """Return the row of a schedule, and the name of the field that refers to it."""
        entry = maybe_schedule(entry)
        if isinstance(entry, schedule) and entry.run_every.microseconds:  # type: ignore[attr-defined]  # stubs
            wanted = {"every": entry.run_every // timedelta(microseconds=1), "period": IntervalSchedule.MICROSECONDS}  # type: ignore[attr-defined]
            return IntervalSchedule.objects.filter(**wanted).first() or IntervalSchedule.objects.create(
                **wanted
            ), "interval"
        row: tuple[Any, str] = super().to_model_schedule(entry)
        return row


@transaction.atomic
def schedule_sync(*, app: Celery) -> Synced:
    """Make the code-owned entries equal to `beat_schedule`, in one transaction."""
    synced = Synced()
    wanted: dict[str, dict[str, Any]] = app.conf.beat_schedule
    dropped: dict[str, list[str]] = {}
    for name, entry in wanted.items():
        try:
            with transaction.atomic():
                done = _sync_entry(name, entry)
        except (OperationalError, InterfaceError):
            raise
        except Exception:
            logger.exception(
                "schedule_entry_broken",
                entry=name,
                hint="correct it in beat_schedule; its database entry stays unchanged",
            )
            done = "broken"
        getattr(synced, done).append(name)
        if done not in {"broken", "refused"} and (unheld := options_unheld(entry)):
            dropped[name] = unheld
    if dropped:
        logger.warning(
            "schedule_options_dropped",
            options=dropped,
            hint="a row of django-celery-beat cannot hold them, so runs are sent without them; set them on the task",
        )
    gone = PeriodicTask.objects.filter(code_entry__isnull=False).exclude(name__in=wanted)
    for periodic_task in gone:
        synced.deleted.append(periodic_task.name)
        periodic_task.delete()
    if synced.refused:
        logger.error(
            "schedule_names_taken",
            names=synced.refused,
            hint="an operator's entry has this name and stays unchanged; rename or delete it to use the entry in code",
        )
    return synced


def _sync_entry(name: str, entry: dict[str, Any]) -> str:
    check_schedule(maybe_schedule(entry["schedule"]))
    fields = CodeEntry._unpack_fields(**entry)  # noqa: SLF001  its only public caller also overwrites strangers' rows
    # One that the code took back must not end the entry.
    fields = {"expires": None, **fields, **_expiry(entry)}
    policy = MissedRuns.Policy((entry.get("options") or {}).get("missed", "once"))
    periodic_task = PeriodicTask.objects.select_for_update().filter(name=name).first()
    if periodic_task is None:
        periodic_task = PeriodicTask.objects.create(name=name, **fields)
        CodeScheduleEntry.objects.create(periodic_task=periodic_task)
        MissedRuns.objects.create(periodic_task=periodic_task, policy=policy)
        return "created"
    if not CodeScheduleEntry.objects.filter(periodic_task=periodic_task).exists():
        return "refused"
    MissedRuns.objects.update_or_create(periodic_task=periodic_task, defaults={"policy": policy})
    if all(getattr(periodic_task, key) == value for key, value in fields.items()):
        return "unchanged"
    for key, value in fields.items():
        setattr(periodic_task, key, value)
    periodic_task.save()
    return "updated"


def options_unheld(entry: Mapping[str, Any]) -> list[str]:
    """Return the names of what an entry says of its runs and its row cannot hold, in order."""
    options: Mapping[str, Any] = entry.get("options") or {}
    held = HELD | ({"expires"} if _expiry(entry) else set())
    unheld = [name for name, value in options.items() if value is not None and name not in held]
    return sorted(unheld + (["relative"] if entry.get("relative") else []))


def _expiry(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row's fields for Celery's `expires`, a number of seconds or a moment; none for what is neither."""
    expires = (entry.get("options") or {}).get("expires")
    if isinstance(expires, datetime):
        return {"expires": moment(expires), "expire_seconds": None}
    seconds = expires.total_seconds() if isinstance(expires, timedelta) else expires
    # A row has whole seconds, and takes 0 for none.
    if isinstance(seconds, (int, float)) and 0 < seconds <= INTEGER:
        return {"expires": None, "expire_seconds": math.ceil(seconds)}
    return {}
