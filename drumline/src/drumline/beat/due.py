"""When an entry is due: computed from its last run alone, so that every beat comes to the same moment."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import Any
from zoneinfo import ZoneInfo

from celery.schedules import crontab, schedule, solar
from django_celery_beat.clockedschedule import clocked

DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)
MOMENT = timedelta(microseconds=1)
# A crontab that matches nothing within these days never does; leap days are four years apart, or eight.
FARTHEST = 366 * 9
# How far back to look for a crontab's last moment, in days, nearest first.
BACK = (1, 7, 31, 366, FARTHEST)


class ScheduleError(ValueError):
    """A schedule that gives no due times."""


class NeverDueError(ScheduleError):
    """A schedule of a moment that does not come, such as 31 February."""


def next_due(
    entry: Any, *, last: datetime | None, saved: datetime, start: datetime | None, now: datetime
) -> datetime | None:
    """Return when an entry is due next, in UTC; None when it is not due any more.

    `last` is the due time of its last run, None before the first; `saved` is when it was last saved, and before `start`
    nothing is due. An interval with a start is first due at the start, and at once when that had passed as it was
    saved. A clocked entry is due at its time, also when that had passed.
    """
    if isinstance(entry, clocked):
        moment = max(entry.clocked_time, start or entry.clocked_time).astimezone(UTC)
        return None if moment == last else moment
    if isinstance(entry, schedule) and start and (last is None or last < start):
        # Of the due times before it was saved the last one stands for all.
        return latest_due(entry, start, saved) if last is None and start < saved else start.astimezone(UTC)
    after = last or saved
    if start:
        # A crontab's moment in the minute before counts as due now, as whoever starts it "now" expects.
        now_started = last is None and saved - MINUTE <= start <= saved
        after = start - MOMENT if now_started else max(after, start - MOMENT)
    return due_after(entry, after.astimezone(UTC), max(now, start or now))


def due_after(entry: Any, last: datetime, now: datetime) -> datetime | None:
    """Return the first time after `last` at which the schedule is due, in UTC; None if it is never due.

    An interval counts from `last`. Should that lie more than one interval ahead of `now`, the clock was set back, and
    the interval is due now. A crontab is due at the wall clock's times, see `crontab_times`. Raise ScheduleError for an
    interval that never advances.
    """
    match entry:
        case clocked():
            moment: datetime = entry.clocked_time.astimezone(UTC)
            return moment if moment > last else None
        case crontab():
            return next(crontab_times(entry, last), None)
        case solar():
            # The moment is computed and rounded anew each time: just after `last` it would be found again.
            rise_or_set: datetime = entry.now() + entry.remaining_estimate(last + MINUTE)
            return rise_or_set.astimezone(UTC).replace(microsecond=0)
        case schedule():
            every = _every(entry)
            try:
                return now if last > now + every else last + every
            except OverflowError:
                return None
    raise TypeError(f"A schedule of the type {type(entry).__name__} has no due times")


def check_schedule(entry: Any) -> None:
    """Raise ScheduleError for a schedule that beat cannot follow; what cannot be computed raises an error of its own."""
    now = datetime.now(UTC)
    if not isinstance(entry, clocked) and due_after(entry, now, now) is None:
        raise NeverDueError(f"{entry} is never due: there is no such day")


def latest_due(entry: Any, due: datetime, now: datetime) -> datetime:
    """Return the last moment up to `now` at which the schedule was due, given an earlier or the same one."""
    match entry:
        case schedule():
            every = _every(entry)
            return (due + (now - due) // every * every).astimezone(UTC)
        case crontab():
            for days in BACK:
                # Not one by one from a moment that may be years ago.
                after = max(due, now - days * DAY)
                moments = list(takewhile(lambda moment: moment <= now, crontab_times(entry, after)))
                if moments or after == due:
                    return moments[-1] if moments else due
    while True:
        following = due_after(entry, due, now)
        if following is None or not due < following <= now:
            return due
        due = following


def _every(entry: Any) -> timedelta:
    every: timedelta = entry.run_every
    if every <= timedelta(0):
        raise ScheduleError(f"the interval is {every.total_seconds():g} s; it must be greater than 0")
    return every


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
