import json
from datetime import timedelta

import pytest
from celery import Celery, current_app
from django.core.management import CommandError, call_command
from django.utils import timezone

from drumline.models import DurableTask, Heartbeat
from drumline.preflight.checks import serving_problems, settings_problems


def test_a_fleet_that_serves_every_queue_passes(capsys):
    call_command("drumline_check", "--serve", "high,default,low")
    assert "every routed queue is served" in capsys.readouterr().out


def test_a_queue_that_nobody_serves_is_named_with_what_goes_there():
    with pytest.raises(CommandError) as caught:
        call_command("drumline_check", "--serve", "default, low")
    assert "queue high is not served" in str(caught.value)
    assert "route notifications.*" in str(caught.value)


def test_serving_nothing_names_every_queue():
    with pytest.raises(CommandError) as caught:
        call_command("drumline_check", "--serve", "")
    assert str(caught.value).count("is not served") == 3


def test_a_served_queue_that_is_not_declared_is_named():
    with pytest.raises(CommandError, match="queue hgih is served but task_queues does not declare it"):
        call_command("drumline_check", "--serve", "high,default,low,hgih")


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("task_acks_late", False),
        ("task_always_eager", True),
        ("accept_content", ["json", "pickle"]),
        ("result_accept_content", ["pickle"]),
        ("task_serializer", "pickle"),
        ("result_serializer", "pickle"),
        ("task_time_limit", None),
        ("task_soft_time_limit", None),
        ("task_soft_time_limit", 1800),
        ("worker_prefetch_multiplier", 0),
        ("worker_prefetch_multiplier", 4),
        ("task_create_missing_queues", True),
        ("broker_connection_max_retries", 100),
        ("beat_scheduler", "celery.beat:PersistentScheduler"),
        ("enable_utc", False),
    ],
)
def test_a_dangerous_setting_is_named(setting, value):
    app = Celery("copy", set_as_current=False)
    app.conf.update(
        {
            name: current_app.conf[name]
            for name in (
                "accept_content",
                "beat_scheduler",
                "broker_connection_max_retries",
                "broker_transport_options",
                "broker_url",
                "result_accept_content",
                "task_acks_late",
                "task_create_missing_queues",
                "task_soft_time_limit",
                "task_time_limit",
                "worker_prefetch_multiplier",
            )
        }
    )
    assert list(settings_problems(app)) == []
    app.conf.update({setting: value})
    problems = list(settings_problems(app))
    assert len(problems) == 1
    assert problems[0].startswith(setting)


def test_a_visibility_timeout_below_the_time_limit_is_named():
    app = Celery("copy", set_as_current=False)
    app.conf.update(
        broker_url=current_app.conf.broker_url,
        broker_transport_options={"visibility_timeout": 600},
        task_time_limit=1800,
        task_soft_time_limit=1500,
    )
    assert any("visibility_timeout 600 must exceed task_time_limit 1800" in line for line in settings_problems(app))


def test_queues_of_tasks_and_schedules_count_as_routed():
    app = Celery("routes", set_as_current=False)
    app.conf.beat_schedule = {"nightly": {"task": "x", "schedule": 5, "options": {"queue": "night"}}}

    @app.task(name="own", queue="special")
    def own():
        pass

    problems = "\n".join(serving_problems(app, ["celery"]))
    assert "queue night is not served, and schedule nightly" in problems
    assert "queue special is not served, and task own" in problems


def test_an_unknown_task_is_answered_with_the_known_ones():
    with pytest.raises(CommandError) as caught:
        call_command("enqueue", "core.pong")
    assert "There is no task 'core.pong'" in str(caught.value)
    assert "core.ping" in str(caught.value)


def test_an_unknown_queue_is_answered_with_the_declared_ones():
    with pytest.raises(CommandError, match=r"There is no queue 'hgih'\. Declared queues: default, high, low"):
        call_command("enqueue", "core.ping", "--queue", "hgih")


@pytest.mark.parametrize("arguments", ["{", "7", '"text"', "null"])
def test_arguments_that_are_no_list_or_object_are_refused_with_an_example(arguments):
    with pytest.raises(CommandError, match="Example:"):
        call_command("enqueue", "core.ping", arguments)


def test_arguments_that_the_task_does_not_take_are_refused():
    with pytest.raises(CommandError, match=r"core\.ping does not take these arguments"):
        call_command("enqueue", "core.ping", "[1, 2]")


def test_a_broker_that_is_down_is_said_so_for_what_is_not_durable(monkeypatch):
    monkeypatch.setattr(current_app.tasks["core.ping"], "durable", False, raising=False)
    with pytest.raises(CommandError, match="The broker did not take the message"):
        call_command("enqueue", "core.ping")


@pytest.mark.django_db
def test_a_durable_task_is_followed_in_the_ledger_while_the_broker_is_down(capsys):
    with pytest.raises(CommandError):
        call_command("enqueue", "core.ping", "--wait", "0.1")
    assert DurableTask.objects.get().state == DurableTask.State.QUEUED
    assert '"state": "PENDING"' in capsys.readouterr().out


@pytest.mark.django_db
def test_heartbeats_are_listed_and_judged(capsys):
    with pytest.raises(CommandError, match="No heartbeat was ever written"):
        call_command("heartbeats", "--max-age", "30")
    Heartbeat.objects.create(name="beat", host="h1", pid=7, at=timezone.now() - timedelta(seconds=60))
    call_command("heartbeats", "--json", "--max-age", "90")
    [row] = json.loads(capsys.readouterr().out)
    assert row["name"] == "beat"
    assert 60 <= row["age"] < 70
    with pytest.raises(CommandError, match="Older than 30 s: beat"):
        call_command("heartbeats", "--max-age", "30")
