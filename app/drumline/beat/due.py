"""When an entry is due: computed from its last run alone, so that every beat comes to the same moment."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from celery.schedules import crontab, schedule, solar
from django_celery_beat.clockedschedule import clocked

DAY = timedelta(days=1)
# A crontab that matches nothing within these days never does; leap days are four years apart, or eight.
FARTHEST = 366 * 9


def due_after(entry: Any, last: datetime, now: datetime) -> datetime | None:
    """Return the first moment after `last` at which the schedule is due, in UTC; None when there is none.

    An interval counts from `last`. Should that lie more than one interval ahead of `now`, the clock was set back, and
    the interval is due now. A crontab is due at the wall clock's times, see `crontab_times`.
    """
    match entry:
        case clocked():
            moment: datetime = entry.clocked_time.astimezone(UTC)
            return moment if moment > last else None
        case crontab():
            return next(crontab_times(entry, last), None)
        case solar():
            rise_or_set: datetime = entry.now() + entry.remaining_estimate(last)
            return rise_or_set.astimezone(UTC)
        case schedule():
            every: timedelta = entry.run_every  # type: ignore[attr-defined]  # incomplete stubs
            return now if last > now + every else last + every
    raise TypeError(f"A schedule of the type {type(entry).__name__} has no due times")


def latest_due(entry: Any, due: datetime, now: datetime) -> datetime:
    """Return the last moment up to `now` at which the schedule was due, given an earlier or the same one."""
    every: timedelta | None = getattr(entry, "run_every", None)
    if every:
        return due + (now - due) // every * every
    while True:
        following = due_after(entry, due, now)
        if following is None or following > now:
            return due
        due = following


def crontab_times(entry: Any, last: datetime) -> Iterator[datetime]:
    """Yield the moments after `last` at which a crontab is due, in UTC and in order.

    Around a change of the clocks a time that does not exist is due as much later as the clocks were put forward, and a
    time that exists twice is due the first time; an entry for every hour runs in each hour that passes.
    """
    zone = entry.tz or ZoneInfo("UTC")
    start = last.astimezone(zone)
    every_hour = len(entry.hour) == 24  # noqa: PLR2004  hours of a day
    before = last
    for days in range(-1, FARTHEST):
        date = start.date() + days * DAY
        if not _matches(entry, date.month, date.day, date.isoweekday() % 7):
            continue
        walls = [
            datetime(date.year, date.month, date.day, hour, minute, tzinfo=zone)
            for hour in sorted(entry.hour)
            for minute in sorted(entry.minute)
        ]
        moments = {wall.astimezone(UTC) for wall in walls}
        if every_hour:
            moments |= {wall.replace(fold=1).astimezone(UTC) for wall in walls}
        for moment in sorted(moments):
            if moment > before:
                yield moment
                before = moment


def _matches(entry: Any, month: int, day: int, weekday: int) -> bool:
    return month in entry.month_of_year and day in entry.day_of_month and weekday in entry.day_of_week
