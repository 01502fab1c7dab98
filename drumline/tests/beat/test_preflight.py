"""What drumline_check says of the schedule, in the code and in the database."""

import pytest
from celery import Celery
from django.core.management import CommandError, call_command
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from drumline.beat.preflight import schedule_problems, unserved_schedules

pytestmark = pytest.mark.django_db


def test_an_entry_of_the_schedule_that_beat_cannot_follow_is_a_problem():
    app = Celery("schedule", set_as_current=False)
    app.conf.beat_schedule = {
        "fine": {"task": "x", "schedule": 60},
        "nothing": {"task": "x", "schedule": 0},
        "none": {"task": "x"},
    }
    assert [line.split(" has an invalid")[0] for line in schedule_problems(app)] == [
        "beat_schedule nothing",
        "beat_schedule none",
    ]


def test_an_option_that_a_row_cannot_hold_is_a_problem():
    app = Celery("schedule", set_as_current=False)
    app.conf.beat_schedule = {
        "fine": {"task": "x", "schedule": 60, "options": {"queue": "low", "expires": 10, "missed": "all"}},
        "lost": {"task": "x", "schedule": 60, "options": {"time_limit": 5, "durable": False}},
    }
    [problem] = schedule_problems(app)
    assert problem.startswith(
        "beat_schedule lost has options that its row in django-celery-beat cannot hold (durable, time_limit)"
    )


def test_an_operators_entry_that_sends_to_a_queue_that_is_not_served_is_a_problem():
    every = IntervalSchedule.objects.create(every=1, period="hours")
    PeriodicTask.objects.create(name="mine", task="drumline.ping", interval=every, queue="bulk")
    PeriodicTask.objects.create(name="routed", task="drumline.ping", interval=every)
    [problem] = unserved_schedules(["high", "default", "low"])
    assert problem.startswith("queue bulk is not served, but the periodic task 'mine' sends to it")


def test_a_schedule_that_no_check_expects_is_a_problem_and_not_a_traceback(monkeypatch):
    app = Celery("odd", set_as_current=False, broker="redis://127.0.0.1")
    app.conf.beat_schedule = ["nightly"]
    monkeypatch.setattr("drumline.management.commands.drumline_check.application", lambda: app)
    with pytest.raises(CommandError, match="beat_schedule cannot be read: "):
        call_command("drumline_check")
