import json
from datetime import timedelta

import pytest
from celery import current_app
from django.core.management import CommandError, call_command
from django.utils import timezone

from drumline.models import DurableTask, Heartbeat


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
