"""What an operator asks and does from the terminal."""

import json
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from celery import current_app
from django.core.management import CommandError, call_command

from drumline.models import DurableTask, Worker

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("no_broker")]

State = DurableTask.State
NOW = datetime.now(UTC)


@pytest.fixture(autouse=True)
def _typed_by_grace(monkeypatch):
    monkeypatch.setenv("SUDO_USER", "grace")


def task(state: State = State.DEAD, **changes) -> str:
    task_id = str(uuid.uuid4())
    current_app.tasks["drumline.ping"].apply_async(task_id=task_id)
    ended = {"finished_at": NOW, "error": "KeyError: 'x'", "attempt": 3} if state == State.DEAD else {}
    DurableTask.objects.filter(id=task_id).update(state=state, **{**ended, **changes})
    return task_id


def run(capsys, *arguments: str) -> str:
    call_command(*arguments)
    return capsys.readouterr().out


def test_dead_letters_are_listed_latest_first_and_filtered(capsys):
    older, latest = task(finished_at=NOW - timedelta(hours=1)), task()
    task(State.QUEUED)
    lines = run(capsys, "dead_letters", "list").splitlines()
    assert [line.split()[2] for line in lines] == [latest, older]
    assert "drumline.ping" in lines[0]
    assert "KeyError" in lines[0]
    assert json.loads(run(capsys, "dead_letters", "list", "--queue", "high", "--json")) == []
    assert run(capsys, "dead_letters", "list", "--task", "drumline.pong") == "No dead letters.\n"


def test_one_task_is_shown_with_arguments_and_history(capsys):
    history = [{"at": NOW.isoformat(), "what": "lost", "worker": None, "error": "its worker died"}]
    dead = task(history=history, traceback="Traceback: here")
    shown = run(capsys, "dead_letters", "show", dead)
    assert "its worker died" in shown
    assert "Traceback: here" in shown
    assert json.loads(run(capsys, "dead_letters", "show", dead, "--json"))["args"] == []
    with pytest.raises(CommandError, match="There is no task"):
        call_command("dead_letters", "show", str(uuid.uuid4()))


def test_requeued_tasks_wait_again_and_remember_who_did_it(capsys):
    dead, other = task(), task()
    assert "Requeued 1 of 1." in run(capsys, "dead_letters", "requeue", dead)
    row = DurableTask.objects.get(id=dead)
    assert (row.state, row.attempt, row.published_at) == (State.QUEUED, 0, None)
    assert (row.history[-1]["what"], row.history[-1]["by"]) == ("requeued", "grace")
    assert "Requeued 1 of 1." in run(capsys, "dead_letters", "requeue", "--all", "--queue", "default")
    assert DurableTask.objects.get(id=other).state == State.QUEUED


def test_a_typing_error_changes_nothing():
    dead, typo = task(), str(uuid.uuid4())
    with pytest.raises(CommandError, match=f"Not dead or discarded: {typo}. Nothing was changed"):
        call_command("dead_letters", "requeue", dead, typo)
    assert DurableTask.objects.get(id=dead).state == State.DEAD
    with pytest.raises(CommandError, match="Give task ids, or --all"):
        call_command("dead_letters", "requeue")
    with pytest.raises(CommandError, match="--reason is required"):
        call_command("dead_letters", "discard", dead, "--reason", " ")


def test_a_discarded_task_says_why_and_by_whom(capsys):
    waiting = task(State.QUEUED)
    assert "Discarded 1 of 1." in run(capsys, "dead_letters", "discard", waiting, "--reason", "sent twice")
    row = DurableTask.objects.get(id=waiting)
    assert (row.state, row.error) == (State.DISCARDED, "discarded by grace: sent twice")
    with pytest.raises(CommandError, match="Not dead or waiting"):
        call_command("dead_letters", "discard", waiting, "--reason", "again")


def test_queues_tell_what_waits_and_who_serves_it(capsys, monkeypatch):
    monkeypatch.setattr("drumline.management.commands.queues.queue_depths", lambda names: dict.fromkeys(names, 4))
    task(State.QUEUED)
    task()
    now = datetime.now(UTC)
    Worker.objects.create(id=uuid.uuid4(), name="one@h", pid=1, queues="default,low", started_at=now, beat_at=now)
    report = json.loads(run(capsys, "queues", "--json"))
    assert report.keys() == {"high", "default", "low"}
    default = report["default"]
    assert {name: default[name] for name in ("depth", "waiting", "dead", "workers")} == {
        "depth": 4,
        "waiting": 1,
        "dead": 1,
        "workers": 1,
    }
    assert report["high"]["workers"] == 0


def test_queues_are_told_without_a_broker(capsys):
    task(State.QUEUED)
    call_command("queues")
    told = capsys.readouterr()
    assert "The broker does not answer" in told.err
    assert "default" in told.out
