"""When a run is due, and that it is sent once: whatever the clocks, the other beats and the outages do."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from celery import Celery, current_app
from celery.schedules import crontab, schedule
from django_celery_beat.models import ClockedSchedule, CrontabSchedule, IntervalSchedule, PeriodicTask
from django_celery_beat.tzcrontab import TzAwareCrontab

from drumline.beat import scheduler as module
from drumline.beat.due import due_after, latest_due
from drumline.beat.schedule import schedule_sync
from drumline.beat.scheduler import Scheduler
from drumline.models import DurableTask, MissedRuns

VIENNA = ZoneInfo("Europe/Vienna")
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
        ({"hour": "0", "minute": "0", "day_of_month": "31", "month_of_year": "2"}, None),
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
    monkeypatch.setattr("drumline.ledger.enqueue.publish", published.extend)
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
    task = PeriodicTask.objects.create(name=name, task="core.ping", last_run_at=last, **fields)
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
    monkeypatch.setattr("drumline.ledger.enqueue._insert", lambda _: (_ for _ in ()).throw(ValueError("broken")))
    tick(scheduler, times=3)
    assert PeriodicTask.objects.get().last_run_at == MIDNIGHT
    monkeypatch.undo()
    monkeypatch.setattr("drumline.ledger.enqueue.publish", lambda _: None)
    monkeypatch.setattr(module, "datetime", clock)

    clock.add(seconds=6)
    tick(scheduler)

    assert DurableTask.objects.count() == 1


@pytest.mark.django_db
def test_the_code_says_what_becomes_of_its_missed_runs():
    app = Celery("schedule", set_as_current=False)
    app.conf.beat_schedule = {"hourly": {"task": "core.ping", "schedule": 3600, "options": {"missed": "all"}}}
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
        name="n", task="core.ping", start_time=now + timedelta(hours=1), last_run_at=last and now + last, **when
    )
    due = module.Entry(row, app=current_app).due
    assert row.start_time <= due <= row.start_time + timedelta(minutes=1)
