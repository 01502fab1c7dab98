"""When a run is due, and that it is sent once: whatever the clocks, the other beats and the outages do."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import celery
import pytest
from celery import Celery, current_app
from celery.schedules import crontab, schedule, solar
from django.db import OperationalError, connection
from django_celery_beat.models import (
    ClockedSchedule,
    CrontabSchedule,
    IntervalSchedule,
    PeriodicTask,
    PeriodicTasks,
    SolarSchedule,
)
from django_celery_beat.tzcrontab import TzAwareCrontab

from drumline.beat import scheduler as module
from drumline.beat.due import ScheduleError, due_after, latest_due
from drumline.beat.models import MissedRuns
from drumline.beat.schedule import schedule_sync
from drumline.beat.scheduler import Scheduler
from drumline.models import DurableTask

VIENNA = ZoneInfo("Europe/Vienna")
UNKNOWING = pytest.mark.skipif(celery.VERSION >= (5, 7), reason="Celery 5.7 refuses a crontab that never comes itself")
MIDNIGHT = datetime(2026, 11, 23, tzinfo=UTC)


def at(*wall: int, fold: int = 0) -> datetime:
    return datetime(*wall, tzinfo=VIENNA, fold=fold).astimezone(UTC)


def runs(entry, start: datetime, end: datetime) -> list[datetime]:
    due, found = due_after(entry, start, end), []
    while due and due < end:
        found.append(due)
        due = due_after(entry, due, end)
    return found


def vienna(**fields: str) -> TzAwareCrontab:
    return TzAwareCrontab(**{"minute": "30", "hour": "2", "tz": VIENNA, **fields})


def test_a_nightly_run_is_due_once_on_the_day_without_its_hour():
    # Vienna goes from 02:00 to 03:00 on 29 March 2026.
    found = runs(vienna(), at(2026, 3, 28, 12), at(2026, 3, 31))

    assert found == [at(2026, 3, 29, 3, 30), at(2026, 3, 30, 2, 30)]


def test_a_nightly_run_is_due_once_on_the_day_with_its_hour_twice():
    # Vienna goes from 03:00 back to 02:00 on 25 October 2026.
    found = runs(vienna(), at(2026, 10, 24, 12), at(2026, 10, 26, 12))

    assert found == [at(2026, 10, 25, 2, 30), at(2026, 10, 26, 2, 30)]


@pytest.mark.parametrize(("start", "hours"), [(at(2026, 3, 28, 23, 45), 23), (at(2026, 10, 24, 23, 45), 25)])
def test_an_hourly_run_is_due_in_each_hour_that_passes(start, hours):
    found = runs(vienna(hour="*"), start, start + timedelta(hours=hours))

    assert {later - earlier for earlier, later in pairwise(found)} == {timedelta(hours=1)}
    assert len(found) == hours


@pytest.mark.parametrize(
    ("fields", "due"),
    [
        ({"hour": "8", "minute": "0", "day_of_week": "mon"}, at(2026, 11, 30, 8)),
        ({"hour": "0", "minute": "0", "day_of_month": "29", "month_of_year": "2"}, at(2028, 2, 29)),
        ({"hour": "*/6", "minute": "15"}, at(2026, 11, 23, 12, 15)),
        pytest.param({"hour": "0", "minute": "0", "day_of_month": "31", "month_of_year": "2"}, None, marks=UNKNOWING),
    ],
)
def test_a_crontab_is_due_at_its_next_wall_time(fields, due):
    assert due_after(vienna(**fields), at(2026, 11, 23, 9), MIDNIGHT) == due


def test_it_agrees_with_celerys_own_crontab_where_no_clock_changes():
    app = Celery("beat", set_as_current=False)
    app.conf.timezone = "UTC"
    for minute, hour, weekday in (("*/7", "*", "*"), ("0", "2", "*"), ("5,50", "8-18", "mon-fri"), ("59", "23", "sun")):
        last = MIDNIGHT + timedelta(minutes=3, seconds=10)
        for _ in range(20):
            # Celery's answer depends on the day on which it is asked.
            entry = crontab(minute=minute, hour=hour, day_of_week=weekday, app=app, nowfun=lambda now=last: now)
            start, delta, _now = entry.remaining_delta(last)
            due = due_after(entry, last, MIDNIGHT)
            assert due == start + delta
            last = due


def test_an_interval_does_not_drift_and_goes_on_when_the_clock_is_set_back():
    every = schedule(timedelta(minutes=10))

    assert due_after(every, MIDNIGHT, MIDNIGHT) == MIDNIGHT + timedelta(minutes=10)
    hour_ago = MIDNIGHT - timedelta(hours=1)
    assert due_after(every, MIDNIGHT, hour_ago) == hour_ago


def test_the_latest_of_the_missed_runs_is_found_for_every_schedule():
    now = MIDNIGHT + timedelta(hours=50, minutes=5)

    assert latest_due(schedule(timedelta(minutes=10)), MIDNIGHT, now) == now - timedelta(minutes=5)
    assert latest_due(TzAwareCrontab("0", "2", tz=ZoneInfo("UTC")), MIDNIGHT + timedelta(hours=2), now) == (
        MIDNIGHT + timedelta(hours=50)
    )


@pytest.fixture
def sent(monkeypatch):
    """Collect what the ledger would publish."""
    published: list = []
    monkeypatch.setattr("drumline.sending.enqueue.publish", published.extend)
    return published


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test sets; `clock.add` lets time pass, `clock.set` turns its hands."""

    class Clock(datetime):
        moment = MIDNIGHT

        @classmethod
        def now(cls, tz=None):
            return cls.moment.astimezone(tz)

        @classmethod
        def add(cls, **time):
            cls.moment += timedelta(**time)

    monkeypatch.setattr(module, "datetime", Clock)
    return Clock


def beat() -> Scheduler:
    app = current_app._get_current_object()
    return Scheduler(app=app, lazy=True)


def entry(name: str, last: datetime = MIDNIGHT, missed: str | None = None, **fields) -> PeriodicTask:
    task = PeriodicTask.objects.create(name=name, task="drumline.ping", last_run_at=last, **fields)
    if missed:
        MissedRuns.objects.create(periodic_task=task, policy=missed)
    return task


def minutely(name: str, **fields) -> PeriodicTask:
    return entry(name, interval=IntervalSchedule.objects.get_or_create(every=1, period="minutes")[0], **fields)


def tick(*schedulers: Scheduler, times: int = 1) -> None:
    for _ in range(times):
        for scheduler in schedulers:
            scheduler.tick()


@pytest.mark.django_db
def test_several_beats_send_each_run_once(sent, clock):  # noqa: ARG001
    minutely("each minute")
    beats = [beat(), beat(), beat()]

    for _ in range(5):
        clock.add(minutes=1)
        tick(*beats)

    assert DurableTask.objects.count() == 5
    assert PeriodicTask.objects.get().total_run_count == 5


@pytest.mark.django_db
def test_a_beat_that_starts_again_sends_nothing_a_second_time(sent, clock):  # noqa: ARG001
    minutely("each minute")
    for _ in range(3):
        clock.add(seconds=40)
        tick(beat())

    assert DurableTask.objects.count() == 2


@pytest.mark.django_db
@pytest.mark.parametrize(("missed", "made_up"), [(None, 1), ("once", 1), ("all", 10), ("skip", 0)])
def test_missed_runs_are_made_up_by_their_policy(sent, clock, missed, made_up):  # noqa: ARG001
    minutely("each minute", missed=missed)
    clock.add(minutes=10, seconds=59)
    if missed == "skip":
        entry(
            "nightly",
            crontab=CrontabSchedule.objects.create(minute="0", hour="20"),
            missed="skip",
            last=MIDNIGHT - timedelta(days=3),
        )
        clock.add(seconds=2)
        PeriodicTask.objects.filter(name="each minute").update(enabled=False)

    tick(beat(), times=15)

    assert DurableTask.objects.count() == made_up


@pytest.mark.django_db
def test_a_clock_set_back_sends_no_nightly_run_twice_and_stops_no_interval(sent, clock):  # noqa: ARG001
    minutely("each minute")
    entry("nightly", crontab=CrontabSchedule.objects.create(minute="30", hour="0"), last=MIDNIGHT)
    clock.add(minutes=31)
    scheduler = beat()
    tick(scheduler, times=2)
    nightly = DurableTask.objects.filter(message__contains="nightly")
    assert nightly.count() == 1

    clock.add(hours=-1)
    scheduler._clock += 3600
    before = DurableTask.objects.count()
    for _ in range(70):
        clock.add(minutes=1)
        tick(scheduler)

    assert nightly.count() == 1
    assert DurableTask.objects.count() - before >= 69


@pytest.mark.django_db
def test_a_clocked_entry_runs_once_and_is_over(sent, clock):  # noqa: ARG001
    moment = MIDNIGHT + timedelta(minutes=5)
    entry("once", clocked=ClockedSchedule.objects.create(clocked_time=moment), one_off=True)
    beats = [beat(), beat()]

    clock.add(minutes=4)
    tick(*beats)
    assert DurableTask.objects.count() == 0
    clock.add(minutes=2)
    tick(*beats, times=3)

    assert DurableTask.objects.count() == 1
    assert not PeriodicTask.objects.get().enabled


@pytest.mark.django_db
def test_a_run_that_cannot_be_sent_is_tried_again_and_not_lost(sent, clock, monkeypatch):  # noqa: ARG001
    minutely("each minute")
    clock.add(minutes=1)
    scheduler = beat()
    monkeypatch.setattr("drumline.sending.enqueue._write", lambda _: (_ for _ in ()).throw(ValueError("broken")))
    tick(scheduler, times=3)
    assert PeriodicTask.objects.get().last_run_at == MIDNIGHT
    monkeypatch.undo()
    monkeypatch.setattr("drumline.sending.enqueue.publish", lambda _: None)
    monkeypatch.setattr(module, "datetime", clock)

    clock.add(seconds=6)
    tick(scheduler)

    assert DurableTask.objects.count() == 1


@pytest.mark.django_db
def test_the_code_says_what_becomes_of_its_missed_runs():
    app = Celery("schedule", set_as_current=False)
    app.conf.beat_schedule = {"hourly": {"task": "drumline.ping", "schedule": 3600, "options": {"missed": "all"}}}
    schedule_sync(app=app)
    assert MissedRuns.objects.get().policy == "all"

    del app.conf.beat_schedule["hourly"]["options"]
    schedule_sync(app=app)
    assert MissedRuns.objects.get().policy == "once"


@pytest.mark.django_db
@pytest.mark.parametrize("last", [None, timedelta(minutes=-5)], ids=["new", "ran before"])
@pytest.mark.parametrize("every", [timedelta(seconds=10), None], ids=["interval", "crontab"])
def test_nothing_is_due_before_its_start_time(every, last):
    now = datetime.now(UTC)
    when = (
        {"interval": IntervalSchedule.objects.create(every=10, period="seconds")}
        if every
        else {"crontab": CrontabSchedule.objects.create(minute="*")}
    )
    row = PeriodicTask.objects.create(
        name="n", task="drumline.ping", start_time=now + timedelta(hours=1), last_run_at=last and now + last, **when
    )
    due = module.Entry(row, app=current_app).due
    assert row.start_time <= due <= row.start_time + timedelta(minutes=1)


# ---- due when saved


def saved(name: str, at: datetime = MIDNIGHT, **fields) -> PeriodicTask:
    """Save an entry that has not run, at this moment."""
    task = PeriodicTask.objects.create(name=name, task="drumline.ping", **fields)
    PeriodicTask.objects.filter(pk=task.pk).update(date_changed=at)
    return task


@pytest.mark.django_db
@pytest.mark.parametrize("ago", [timedelta(0), timedelta(seconds=1), timedelta(days=2)], ids=str)
def test_a_clocked_entry_that_is_due_when_it_is_saved_runs_once(sent, clock, ago):  # noqa: ARG001
    when = ClockedSchedule.objects.create(clocked_time=MIDNIGHT - ago)
    saved("once", clocked=when, one_off=True)
    beats = [beat(), beat()]

    clock.add(seconds=1)
    tick(*beats, times=3)

    assert DurableTask.objects.count() == 1
    assert not PeriodicTask.objects.get().enabled


@pytest.mark.django_db
def test_an_entry_that_ran_by_an_interval_runs_at_a_clocked_time_that_has_passed(sent, clock):  # noqa: ARG001
    when = ClockedSchedule.objects.create(clocked_time=MIDNIGHT - timedelta(hours=2))
    saved("changed", clocked=when, one_off=True, last_run_at=MIDNIGHT - timedelta(hours=1), total_run_count=7)
    clock.add(seconds=1)
    tick(beat(), times=3)
    assert DurableTask.objects.count() == 1


@pytest.mark.django_db
def test_a_clocked_entry_with_a_later_start_time_runs_at_the_start(sent, clock):  # noqa: ARG001
    when = ClockedSchedule.objects.create(clocked_time=MIDNIGHT)
    saved("once", clocked=when, one_off=True, start_time=MIDNIGHT + timedelta(minutes=5))
    scheduler = beat()
    clock.add(minutes=4)
    tick(scheduler)
    assert not DurableTask.objects.exists()
    clock.add(minutes=2)
    tick(scheduler)
    assert DurableTask.objects.count() == 1


@pytest.mark.django_db
@pytest.mark.parametrize("missed", ["once", "all"])
@pytest.mark.parametrize(
    ("start", "first"),
    [
        (timedelta(0), timedelta(0)),
        (timedelta(seconds=-1), timedelta(0)),
        (timedelta(days=-400), timedelta(0)),
        (timedelta(minutes=20), timedelta(minutes=20)),
    ],
    ids=str,
)
def test_an_interval_first_runs_at_its_start_time_and_at_once_when_that_has_passed(sent, clock, start, first, missed):  # noqa: ARG001
    hourly = IntervalSchedule.objects.create(every=1, period="hours")
    row = saved("hourly", interval=hourly, start_time=MIDNIGHT + start)
    MissedRuns.objects.create(periodic_task=row, policy=missed)
    scheduler = beat()
    if first:
        clock.add(seconds=first.total_seconds() - 1)
        tick(scheduler)
        assert not DurableTask.objects.exists()
    clock.add(seconds=2)
    tick(scheduler, times=3)
    assert DurableTask.objects.count() == 1

    # The following keep the start's rhythm.
    clock.add(hours=1)
    tick(scheduler, times=3)
    assert DurableTask.objects.count() == 2


@pytest.mark.django_db
@pytest.mark.parametrize(("back", "count"), [(timedelta(0), 1), (timedelta(minutes=2), 0)], ids=["now", "passed"])
def test_a_crontab_that_is_started_now_runs_now_and_not_before_its_time(sent, clock, back, count):  # noqa: ARG001
    """As in django-celery-beat#912: a start time that has passed is no reason to run at another time."""
    daily = CrontabSchedule.objects.create(minute="0", hour="0")
    saved("daily", crontab=daily, start_time=MIDNIGHT - back, at=MIDNIGHT + timedelta(seconds=2) + back)
    clock.add(seconds=back.total_seconds() + 3)
    tick(beat(), times=2)
    assert DurableTask.objects.count() == count


# ---- what others reported


def runs_by_hand(scheduler: Scheduler, clock, *, hours: int) -> None:
    """Let hours pass under one beat that is not started again."""
    for _ in range(hours * 4):
        clock.add(minutes=15)
        tick(scheduler)


@pytest.mark.django_db
def test_a_crontab_with_a_time_zone_runs_at_its_wall_time(sent, clock, settings):  # noqa: ARG001
    """The case of django-celery-beat#875: 7 o'clock in Los Angeles, and nothing was sent."""
    settings.TIME_ZONE = "UTC"
    seven = CrontabSchedule.objects.create(minute="0", hour="7", timezone="America/Los_Angeles")
    entry("pst", crontab=seven)
    runs_by_hand(beat(), clock, hours=48)
    row = PeriodicTask.objects.get()
    assert row.total_run_count == 2
    assert row.last_run_at == datetime(2026, 11, 24, 15, tzinfo=UTC)


@pytest.mark.django_db
def test_a_beat_that_is_not_started_again_sends_every_hour_of_the_day(sent, clock, settings):  # noqa: ARG001
    """The case of django-celery-beat#894: a server on UTC, Django on Berlin, and hours that were left out."""
    settings.TIME_ZONE = "Europe/Berlin"
    for hour in range(24):
        for zone in ("UTC", "Europe/Berlin"):
            entry(
                f"{zone} {hour}",
                crontab=CrontabSchedule.objects.create(minute="30", hour=str(hour), timezone=zone),
            )
    runs_by_hand(beat(), clock, hours=24)
    assert set(PeriodicTask.objects.values_list("total_run_count", flat=True)) == {1}
    assert DurableTask.objects.count() == 48


@pytest.mark.django_db
@pytest.mark.parametrize("zone", ["America/New_York", "Pacific/Honolulu", "Asia/Tokyo"])
def test_a_crontab_behind_the_applications_time_zone_is_not_sent_again_and_again(sent, clock, settings, zone):  # noqa: ARG001
    """The case of celery#9715."""
    settings.TIME_ZONE = "Europe/Vienna"
    entry("daily", crontab=CrontabSchedule.objects.create(minute="0", hour="20", timezone=zone))
    scheduler = beat()
    scheduler.app.conf.timezone = "Europe/Vienna"
    for _ in range(24 * 4):
        clock.add(minutes=15)
        tick(scheduler, times=3)
    assert PeriodicTask.objects.get().total_run_count == 1


# ---- one entry must not stop the others


BROKEN = {
    "an interval of nothing": lambda: {"interval": IntervalSchedule.objects.create(every=0, period="seconds")},
    "a negative interval": lambda: {"interval": IntervalSchedule.objects.create(every=-5, period="minutes")},
    "an interval beyond time": lambda: {"interval": IntervalSchedule.objects.create(every=2**31 - 1, period="days")},
    "an unknown period": lambda: {"interval": IntervalSchedule.objects.create(every=1, period="fortnights")},
    "an empty crontab": lambda: {"crontab": CrontabSchedule.objects.create(minute="")},
    "a crontab without a step": lambda: {"crontab": CrontabSchedule.objects.create(minute="*/")},
    "a crontab of no weekday": lambda: {"crontab": CrontabSchedule.objects.create(day_of_week="7")},
    "an unknown time zone": lambda: {"crontab": CrontabSchedule.objects.create(minute="*")},
    "a place that is none": lambda: {"solar": SolarSchedule.objects.create(event="sunrise", latitude=99, longitude=0)},
    "arguments that are not JSON": lambda: {**every_minute(), "args": "[1,"},
    "arguments that are no list": lambda: {**every_minute(), "args": "7"},
    "keywords that are no object": lambda: {**every_minute(), "kwargs": "[]"},
    "headers that are no object": lambda: {**every_minute(), "headers": "[1]"},
    "arguments without an end": lambda: {**every_minute(), "args": "[" * 100_000},
    "a queue that is not declared": lambda: {**every_minute(), "queue": "hgih"},
    "no schedule": lambda: {**every_minute()},
}
BY_SQL = {
    "an unknown time zone": "UPDATE django_celery_beat_crontabschedule SET timezone = 'Mars/Olympus'",
    "no schedule": "UPDATE django_celery_beat_periodictask SET interval_id = NULL WHERE name = 'broken'",
}


def every_minute() -> dict:
    return {"interval": IntervalSchedule.objects.get_or_create(every=1, period="minutes")[0]}


@pytest.mark.django_db
@pytest.mark.parametrize("what", BROKEN)
def test_an_entry_that_cannot_run_stops_no_other(sent, clock, what):  # noqa: ARG001
    entry("broken", **BROKEN[what]())
    for other in ("a", "z"):
        minutely(other)
    if statement := BY_SQL.get(what):
        with connection.cursor() as cursor:
            cursor.execute(statement)
    scheduler = beat()
    for _ in range(3):
        clock.add(minutes=1)
        assert scheduler.tick() <= 5

    assert DurableTask.objects.filter(message__contains='"a"').count() == 3
    assert DurableTask.objects.filter(message__contains='"z"').count() == 3
    # It is left to the operator as it is, and runs once it is corrected.
    with connection.cursor() as cursor:
        cursor.execute("SELECT enabled FROM django_celery_beat_periodictask WHERE name = 'broken'")
        assert cursor.fetchone()[0]
    assert not DurableTask.objects.filter(message__contains='"broken"').exists()


@pytest.mark.django_db
def test_a_broken_entry_is_named_in_the_status_and_runs_once_it_is_corrected(sent, clock, monkeypatch):  # noqa: ARG001
    said: list[str] = []
    monkeypatch.setattr(module, "sd_notify", lambda *lines: said.extend(lines))
    row = entry("broken", args="[1,", **every_minute())
    scheduler = beat()
    clock.add(minutes=1)
    tick(scheduler)
    assert said[-1] == "STATUS=0 entries, cannot read: broken"

    PeriodicTask.objects.filter(pk=row.pk).update(args="[0]")
    PeriodicTasks.update_changed()
    monkeypatch.setattr(scheduler, "schedule_changed", lambda: True)
    tick(scheduler)
    assert said[-1] == "STATUS=1 entries"
    assert DurableTask.objects.count() == 1


@pytest.mark.django_db
def test_a_row_that_the_database_refuses_is_tried_less_and_less_often(sent, clock, monkeypatch):  # noqa: ARG001
    """An error of the database about one row is no outage of the database."""
    minutely("overflows")
    minutely("fine")
    tries: list[datetime] = []
    run = Scheduler._run

    def refused(self, entry, now):
        if entry.name == "overflows":
            tries.append(now)
            message = "integer out of range"
            raise OperationalError(message)
        return run(self, entry, now)

    monkeypatch.setattr(Scheduler, "_run", refused)
    scheduler = beat()
    clock.add(minutes=1)
    for _ in range(60):
        tick(scheduler)
        clock.add(seconds=5)
    assert PeriodicTask.objects.get(name="fine").total_run_count == 5
    assert [later - earlier for earlier, later in pairwise(tries)] == [
        timedelta(seconds=seconds) for seconds in (5, 10, 20, 40, 80)
    ]


@pytest.mark.django_db
def test_a_minutely_entry_that_slept_for_years_is_looked_at_in_no_time(sent, clock):  # noqa: ARG001
    long_ago = MIDNIGHT - timedelta(days=3000)
    entry("crontab", crontab=CrontabSchedule.objects.create(minute="*"), last=long_ago)
    due = latest_due(TzAwareCrontab(minute="*", tz=VIENNA), long_ago, MIDNIGHT)
    assert due == MIDNIGHT
    assert latest_due(TzAwareCrontab("0", "2", day_of_month="29", month_of_year="2"), long_ago, MIDNIGHT) == datetime(
        2024, 2, 29, 2, tzinfo=UTC
    )
    tick(beat(), times=2)
    assert DurableTask.objects.count() == 1


def test_an_interval_that_never_advances_is_refused_wherever_it_is_asked():
    for every in (timedelta(0), timedelta(seconds=-1)):
        for ask in (due_after, latest_due):
            with pytest.raises(ScheduleError):
                ask(schedule(every), MIDNIGHT, MIDNIGHT + timedelta(hours=1))


def test_a_sunrise_is_due_once_however_its_moment_is_rounded():
    class Sunrise(solar):
        """Rises at six, and is computed with an error of its own each time."""

        def __init__(self):
            self.error = 0

        def now(self):
            return MIDNIGHT

        def remaining_estimate(self, last):
            self.error += 300
            rise = last.replace(hour=6, minute=0, second=0, microsecond=self.error)
            return rise + timedelta(days=last > rise) - MIDNIGHT

    found = runs(Sunrise(), MIDNIGHT, MIDNIGHT + timedelta(days=3))
    assert found == [MIDNIGHT + timedelta(days=day, hours=6) for day in range(3)]


@pytest.mark.django_db
@UNKNOWING
def test_a_code_entry_that_cannot_be_scheduled_stops_no_other():
    app = Celery("schedule", set_as_current=False)
    app.conf.beat_schedule = {
        "nothing": {"task": "drumline.ping", "schedule": 0},
        "never": {"task": "drumline.ping", "schedule": crontab(day_of_month="31", month_of_year="2", app=app)},
        "policy": {"task": "drumline.ping", "schedule": 60, "options": {"missed": "sometimes"}},
        "half": {"task": "drumline.ping", "schedule": 0.5},
        "fine": {"task": "drumline.ping", "schedule": 60},
    }
    synced = schedule_sync(app=app)
    assert synced.broken == ["nothing", "never", "policy"]
    assert synced.created == ["half", "fine"]
    assert PeriodicTask.objects.get(name="half").schedule.run_every == timedelta(seconds=0.5)
    assert schedule_sync(app=app).unchanged == ["half", "fine"]


@pytest.mark.django_db
def test_an_entry_that_is_saved_right_after_beat_has_begun_is_seen_at_the_next_look():
    beat = Scheduler(app=current_app, lazy=True)
    assert "saved just now" not in beat.schedule

    every = IntervalSchedule.objects.create(every=1, period="seconds")
    PeriodicTask.objects.create(name="saved just now", task="drumline.ping", interval=every)

    assert "saved just now" in beat.schedule
