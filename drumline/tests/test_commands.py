import json
import uuid
from datetime import timedelta
from types import SimpleNamespace

import pytest
from celery import current_app
from celery.backends.base import DisabledBackend
from django.core.management import CommandError, call_command
from django.utils import timezone

from drumline.models import DurableTask, Heartbeat, Worker


def test_an_unknown_task_is_answered_with_the_known_ones():
    with pytest.raises(CommandError) as caught:
        call_command("enqueue", "drumline.pong")
    assert "There is no task 'drumline.pong'" in str(caught.value)
    assert "drumline.ping" in str(caught.value)


def test_an_unknown_queue_is_answered_with_the_declared_ones():
    with pytest.raises(CommandError, match=r"There is no queue 'hgih'\. Declared queues: default, high, low"):
        call_command("enqueue", "drumline.ping", "--queue", "hgih")
    with pytest.raises(CommandError, match=r"There is no queue ''\. Declared queues"):
        call_command("enqueue", "drumline.ping", "--queue", "")


@pytest.mark.parametrize("arguments", ["{", "7", '"text"', "null"])
def test_arguments_that_are_no_list_or_object_are_refused_with_an_example(arguments):
    with pytest.raises(CommandError, match="Example:"):
        call_command("enqueue", "drumline.ping", arguments)


def test_arguments_that_the_task_does_not_take_are_refused():
    with pytest.raises(CommandError, match=r"drumline\.ping does not accept these arguments"):
        call_command("enqueue", "drumline.ping", "[1, 2]")


def test_a_broker_that_is_down_is_said_so_for_what_is_not_durable(monkeypatch):
    monkeypatch.setattr(current_app.tasks["drumline.ping"], "durable", False, raising=False)
    with pytest.raises(CommandError, match="The broker did not accept the message"):
        call_command("enqueue", "drumline.ping")


@pytest.mark.django_db
def test_a_durable_task_is_followed_in_the_ledger_while_the_broker_is_down(capsys):
    with pytest.raises(CommandError):
        call_command("enqueue", "drumline.ping", "--wait", "0.1")
    assert DurableTask.objects.get().state == DurableTask.State.QUEUED
    assert '"state": "PENDING"' in capsys.readouterr().out


@pytest.mark.django_db
@pytest.mark.usefixtures("another_application", "no_broker")
def test_commands_speak_of_the_ledgers_application_and_not_of_the_one_that_was_created_last(capsys):
    assert "low" not in current_app.amqp.queues
    call_command("queues", "--json")
    assert {"high", "default", "low"} <= set(json.loads(capsys.readouterr().out.splitlines()[-1]))
    call_command("enqueue", "drumline.ping", "--queue", "high")
    assert DurableTask.objects.get().queue == "high"


@pytest.mark.django_db
def test_heartbeats_are_listed_and_judged(capsys):
    with pytest.raises(CommandError, match="No heartbeat found"):
        call_command("heartbeats", "--max-age", "30")
    Heartbeat.objects.create(name="beat", host="h1", pid=7, at=timezone.now() - timedelta(seconds=60))
    call_command("heartbeats", "--json", "--max-age", "90")
    [row] = json.loads(capsys.readouterr().out)
    assert row["name"] == "beat"
    assert 60 <= row["age"] < 70
    with pytest.raises(CommandError, match="Older than 30 s: beat"):
        call_command("heartbeats", "--max-age", "30")


def beat(name: str, *, seconds: float) -> None:
    Heartbeat.objects.create(name=name, host="h1", pid=7, at=timezone.now() - timedelta(seconds=seconds))


@pytest.mark.django_db
def test_a_fresh_relay_does_not_stand_for_beat(capsys):
    beat("relay@h1", seconds=1)
    call_command("heartbeats", "relay", "--max-age", "30")
    with pytest.raises(CommandError, match=r"No heartbeat of beat found\. Is drumline-beat running"):
        call_command("heartbeats", "beat", "relay", "--max-age", "30")
    beat("beat", seconds=99)
    with pytest.raises(CommandError, match="beat on h1 sent its last heartbeat 99 s ago"):
        call_command("heartbeats", "beat", "relay", "--max-age", "30")
    assert "relay@h1 on h1" in capsys.readouterr().out


@pytest.mark.django_db
def test_a_name_without_a_heartbeat_fails_without_an_age_too(capsys):
    beat("beat", seconds=99)
    call_command("heartbeats", "beat")
    for arguments in (("btea",), ("beat", "btea", "--json")):
        with pytest.raises(CommandError, match=r"^No heartbeat of btea found\. Is drumline-btea running\?$"):
            call_command("heartbeats", *arguments)
    assert "beat on h1" in capsys.readouterr().out


@pytest.mark.django_db
def test_what_a_host_that_left_wrote_does_not_stand_against_a_relay_that_lives():
    beat("relay@gone", seconds=86400)
    beat("relay@h1", seconds=1)
    call_command("heartbeats", "relay", "--max-age", "30")
    with pytest.raises(CommandError, match="relay@gone on h1"):
        call_command("heartbeats", "relay@gone", "--max-age", "30")


def worker(*queues: str, seconds: float = 0, **fields) -> Worker:
    now = timezone.now()
    return Worker.objects.create(
        id=uuid.uuid4(),
        name="w@h1",
        host="h1",
        pid=1,
        queues=",".join(queues),
        started_at=now,
        beat_at=now - timedelta(seconds=seconds),
        **fields,
    )


def waiting(queue: str, **changes) -> DurableTask:
    result = current_app.tasks["drumline.ping"].apply_async(queue="low")
    DurableTask.objects.filter(id=result.id).update(queue=queue, **changes)
    return DurableTask.objects.get(id=result.id)


@pytest.mark.django_db
@pytest.mark.usefixtures("no_broker")
def test_tasks_in_a_queue_that_nobody_serves_fail_the_check_with_what_to_type(capsys):
    beat("relay@h1", seconds=0)
    worker("high", "low")
    worker("bulk", seconds=600)
    worker("bulk", stopped_at=timezone.now())
    waiting("high")
    call_command("queues", "--check")
    call_command("ledger", "status", "--max-lag", "30")

    for _ in range(4):
        waiting("bulk")
    waiting("bulk", published_at=None, due_at=timezone.now() + timedelta(hours=1))
    for command in (("queues", "--check"), ("queues", "--check", "--json"), ("ledger", "status", "--max-lag", "30")):
        with pytest.raises(CommandError, match="No worker consumes queue bulk, and 5 tasks wait in it") as caught:
            call_command(*command)
        assert "drumline-manage queues move bulk QUEUE" in str(caught.value)
    # Looking at them does not fail.
    call_command("queues")
    call_command("ledger", "status")
    assert "bulk" in capsys.readouterr().out


@pytest.mark.django_db
@pytest.mark.usefixtures("no_broker")
def test_what_waits_in_a_queue_is_sent_through_another(capsys, monkeypatch):
    monkeypatch.setenv("SUDO_USER", "grace")
    worker("high")
    held = waiting("bulk", state=DurableTask.State.RUNNING)
    row = waiting("bulk")
    call_command("queues", "move", "bulk", "high")
    assert "Moved 1 tasks from bulk to high" in capsys.readouterr().out

    row.refresh_from_db()
    message = json.loads(row.message)
    assert (row.queue, message["queue"], message["exchange"], message["routing_key"]) == ("high",) * 4
    assert row.published_at is None
    assert (row.history[-1]["what"], row.history[-1]["by"]) == ("moved", "grace")
    held.refresh_from_db()
    assert held.queue == "bulk"
    call_command("queues", "--check")
    with pytest.raises(CommandError, match="There is no queue 'hgih'"):
        call_command("queues", "move", "high", "hgih")


@pytest.mark.django_db
@pytest.mark.usefixtures("no_broker")
def test_a_queue_that_nothing_waits_in_and_nobody_declares_is_not_moved(capsys):
    with pytest.raises(CommandError, match=r"There is no queue 'hgih', and no task .* Did you mean high\?"):
        call_command("queues", "move", "hgih", "default")
    call_command("queues", "move", "high", "default")
    assert "Moved 0 tasks from high to default" in capsys.readouterr().out
    # A release that runs beside this one may declare it.
    worker("reports")
    call_command("queues", "move", "reports", "default")


@pytest.mark.django_db
def test_a_ping_is_followed_where_no_result_is_stored(capsys, monkeypatch):
    """As verify does: the ledger knows the end and the worker."""
    ping = current_app.tasks["drumline.ping"]
    monkeypatch.setattr(ping, "backend", DisabledBackend(app=current_app))

    def runs(messages):
        [message] = messages
        row = worker("default")
        DurableTask.objects.filter(id=message.id).update(state=DurableTask.State.FINISHED, worker_id=row.id)

    monkeypatch.setattr("drumline.sending.enqueue.publish", runs)
    monkeypatch.setattr("drumline.sending.enqueue.transaction.on_commit", lambda run, **_: run())
    call_command("enqueue", "drumline.ping", "--queue", "default", "--wait", "5")
    report = json.loads(capsys.readouterr().out)
    assert (report["state"], report["worker"], report["result"]) == ("SUCCESS", "w@h1", None)

    monkeypatch.setattr(ping, "durable", False, raising=False)
    monkeypatch.setattr(ping, "apply_async", lambda **_: SimpleNamespace(id=str(uuid.uuid4())))
    with pytest.raises(CommandError, match="not durable and stores no result"):
        call_command("enqueue", "drumline.ping", "--queue", "default", "--wait", "5")


@pytest.mark.django_db
def test_a_result_that_cannot_be_read_does_not_hide_that_the_task_succeeded(capsys, monkeypatch):
    ping = current_app.tasks["drumline.ping"]

    class Unreachable(DisabledBackend):
        """Not disabled, and away."""

    class Sent:
        id = str(uuid.uuid4())

        @property
        def result(self):
            raise ConnectionError

    DurableTask.objects.create(
        id=Sent.id,
        name="drumline.ping",
        queue="default",
        message="{}",
        created_at=timezone.now(),
        due_at=timezone.now(),
        max_attempts=3,
        state=DurableTask.State.FINISHED,
    )
    monkeypatch.setattr(ping, "apply_async", lambda **_: Sent())
    call_command("enqueue", "drumline.ping", "--queue", "default", "--wait", "5")
    assert json.loads(capsys.readouterr().out)["state"] == "SUCCESS"


@pytest.mark.django_db
@pytest.mark.usefixtures("no_broker")
def test_a_task_goes_where_celery_routes_it(monkeypatch):
    ping = current_app.tasks["drumline.ping"]
    monkeypatch.setattr(ping, "queue", "low", raising=False)
    # Where Celery remembers a task's options.
    monkeypatch.setattr(ping, "_exec_options", None)
    call_command("enqueue", "drumline.ping")
    assert DurableTask.objects.get().queue == "low"

    monkeypatch.setattr(ping, "queue", "hgih")
    monkeypatch.setattr(ping, "_exec_options", None)
    with pytest.raises(CommandError, match="routed to a queue that is not declared"):
        call_command("enqueue", "drumline.ping")


@pytest.mark.django_db
@pytest.mark.usefixtures("no_broker")
def test_a_queue_that_celery_creates_takes_a_ping(monkeypatch):
    monkeypatch.setattr(current_app.amqp.queues, "create_missing", True)
    monkeypatch.setitem(current_app.conf.changes, "CELERY_TASK_CREATE_MISSING_QUEUES", "yes")
    call_command("enqueue", "drumline.ping", "--queue", "made")
    assert DurableTask.objects.get().queue == "made"
    del current_app.amqp.queues["made"]
