import logging
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from celery import Celery
from celery.schedules import crontab
from django.core.management import call_command
from django.db import OperationalError
from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask
from django_celery_beat.tzcrontab import TzAwareCrontab

from drumline.beat import scheduler as scheduler_module
from drumline.beat.due import due_after
from drumline.beat.schedule import schedule_sync
from drumline.beat.scheduler import Scheduler
from drumline.models import Heartbeat

pytestmark = pytest.mark.django_db


def project(**schedule):
    app = Celery("schedule", set_as_current=False)
    app.conf.beat_schedule = schedule
    return app


def nightly(task="drumline.ping", hour="2", **options):
    return {"task": task, "schedule": crontab(minute="0", hour=hour), "options": options}


def test_an_entry_of_the_code_is_created_once():
    app = project(nightly=nightly())
    assert schedule_sync(app=app).created == ["nightly"]
    assert schedule_sync(app=app).unchanged == ["nightly"]
    assert PeriodicTask.objects.get(name="nightly").crontab.hour == "2"


def test_the_code_owns_the_time_and_the_operator_owns_enabled():
    schedule_sync(app=project(nightly=nightly()))
    PeriodicTask.objects.update(enabled=False)
    assert schedule_sync(app=project(nightly=nightly(hour="3", queue="low"))).updated == ["nightly"]
    task = PeriodicTask.objects.get()
    assert (task.enabled, task.crontab.hour, task.queue) == (False, "3", "low")


def test_an_operators_change_of_the_time_is_undone():
    schedule_sync(app=project(nightly=nightly()))
    other = CrontabSchedule.objects.create(minute="5", hour="5")
    PeriodicTask.objects.update(crontab=other)
    assert schedule_sync(app=project(nightly=nightly())).updated == ["nightly"]
    assert PeriodicTask.objects.get().crontab.hour == "2"


def test_the_time_zone_of_an_entry_reaches_the_database():
    weekly = TzAwareCrontab(minute="0", hour="8", day_of_week="mon", tz=ZoneInfo("Europe/Vienna"))
    schedule_sync(app=project(weekly={"task": "drumline.ping", "schedule": weekly}))
    assert schedule_sync(app=project(weekly={"task": "drumline.ping", "schedule": weekly})).unchanged == ["weekly"]
    row = PeriodicTask.objects.get()
    assert row.crontab.timezone == ZoneInfo("Europe/Vienna")
    before, after = datetime(2026, 10, 19, 6, tzinfo=UTC), datetime(2026, 10, 26, 7, tzinfo=UTC)
    assert due_after(row.schedule, before, before) == after
    moved = TzAwareCrontab(minute="0", hour="8", day_of_week="mon", tz=ZoneInfo("Asia/Tokyo"))
    assert schedule_sync(app=project(weekly={"task": "drumline.ping", "schedule": moved})).updated == ["weekly"]
    assert PeriodicTask.objects.get().crontab.timezone == ZoneInfo("Asia/Tokyo")


def test_what_an_operator_added_is_never_touched():
    interval = IntervalSchedule.objects.create(every=5, period="minutes")
    PeriodicTask.objects.create(name="mine", task="drumline.ping", interval=interval)
    PeriodicTask.objects.create(name="taken", task="drumline.ping", interval=interval)
    synced = schedule_sync(app=project(taken=nightly()))
    assert synced.refused == ["taken"]
    assert PeriodicTask.objects.get(name="taken").interval == interval
    assert schedule_sync(app=project()).deleted == []
    assert PeriodicTask.objects.count() == 2


def test_an_entry_that_left_the_code_is_deleted():
    schedule_sync(app=project(nightly=nightly(), weekly=nightly()))
    assert schedule_sync(app=project(nightly=nightly())).deleted == ["weekly"]
    assert list(PeriodicTask.objects.values_list("name", flat=True)) == ["nightly"]


END = datetime(2100, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("options", "expires", "seconds"),
    [
        ({"expires": 10}, None, 10),
        ({"expires": 0.5}, None, 1),
        ({"expires": timedelta(minutes=2)}, None, 120),
        ({"expires": END}, END, None),
        ({"expires": END.astimezone(ZoneInfo("Asia/Tokyo"))}, END, None),
        ({"expires": END.replace(tzinfo=None)}, END, None),
        ({"expires": None}, None, None),
        ({"expire_seconds": 7}, None, 7),
    ],
)
def test_the_expiry_of_an_entry_reaches_the_database_and_leaves_it_with_the_code(options, expires, seconds, caplog):
    for verb in ("created", "unchanged"):
        assert getattr(schedule_sync(app=project(nightly=nightly(**options))), verb) == ["nightly"]
        row = PeriodicTask.objects.get()
        assert (row.expires, row.expire_seconds) == (expires, seconds)

    schedule_sync(app=project(nightly=nightly()))

    row = PeriodicTask.objects.get()
    assert (row.expires, row.expire_seconds) == (None, None)
    assert "schedule_options_dropped" not in caplog.text


def test_a_task_that_is_added_with_an_expiry_as_celery_documents_it_expires(caplog):
    app = project()

    @app.task(name="told")
    def told(): ...

    app.add_periodic_task(30.0, told.s(), name="told", expires=10)

    assert schedule_sync(app=app).created == ["told"]
    assert PeriodicTask.objects.get().expire_seconds == 10
    assert not caplog.text


def test_options_that_a_row_cannot_hold_are_named_once_and_the_entry_is_synced(caplog):
    held = {"queue": "low", "exchange": "low", "routing_key": "low", "priority": 3, "headers": {"mine": 1}}
    lost = {"time_limit": 5, "durable": False, "expires": "2100-01-01"}
    odd = {"task": "x", "schedule": 60, "relative": True, "options": {"expires": -1}}
    schedule = {
        "fine": nightly(**held, missed="all", expires=9, link=None),
        "lost": nightly(**held, **lost),
        "odd": odd,
    }

    assert schedule_sync(app=project(**schedule)).created == ["fine", "lost", "odd"]

    [told] = [record for record in caplog.records if record.levelno == logging.WARNING]
    named = {"lost": ["durable", "expires", "time_limit"], "odd": ["expires", "relative"]}
    assert str(named) in told.getMessage()
    rows = {row.name: row for row in PeriodicTask.objects.all()}
    assert (rows["fine"].expire_seconds, rows["lost"].expire_seconds, rows["odd"].expire_seconds) == (9, None, None)
    for row in (rows["fine"], rows["lost"]):
        assert (row.queue, row.exchange, row.routing_key, row.priority) == ("low", "low", "low", 3)
        assert row.headers == '{"mine": 1}'


def test_the_command_writes_the_projects_schedule(capsys):
    call_command("sync_schedule")
    assert "created users.cleanup_expired_sessions" in capsys.readouterr().out
    call_command("sync_schedule")
    assert "unchanged users.cleanup_expired_sessions" in capsys.readouterr().out


@pytest.fixture
def scheduler():
    app = project(nightly=nightly())
    app.conf.beat_max_loop_interval = 5
    return Scheduler(app=app)


def test_a_tick_writes_the_heartbeat_and_never_waits_longer_than_the_loop(scheduler):
    assert scheduler.tick() <= 5
    assert Heartbeat.objects.get(name="beat").pid > 0


def test_the_heartbeat_is_written_at_most_every_ten_seconds(scheduler):
    scheduler.tick()
    first = Heartbeat.objects.get().at
    scheduler.tick()
    assert Heartbeat.objects.get().at == first


def test_an_entry_hours_away_is_considered_too(scheduler):
    schedule_sync(app=project(**{f"at{hour}": nightly(hour=str(hour)) for hour in range(24)}))
    assert len(scheduler.enabled_models()) == 24


def test_beat_waits_for_a_database_that_is_away(scheduler, monkeypatch):
    told = []
    monkeypatch.setattr(scheduler_module, "sd_notify", lambda *lines: told.extend(lines))
    monkeypatch.setattr(scheduler_module, "close_old_connections", lambda: None)
    monkeypatch.setattr(Scheduler, "_send_due", lambda *_: (_ for _ in ()).throw(OperationalError("gone")))
    assert scheduler.tick() == 5
    assert told == ["WATCHDOG=1", "STATUS=waiting for the database"]
