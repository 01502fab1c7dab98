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


@pytest.mark.parametrize("verb", [("list",), ("list", "--json"), ("requeue", "--all")])
@pytest.mark.parametrize(("queue", "said"), [("hgih", "Did you mean high"), ("zzz", "Known queues: .*high"), ("", "")])
def test_a_queue_that_nobody_knows_is_refused(verb, queue, said):
    dead = task()
    with pytest.raises(CommandError, match=f"There is no queue '{queue}', and no task is in one of that name.*{said}"):
        call_command("dead_letters", *verb, "--queue", queue)
    assert DurableTask.objects.get(id=dead).state == State.DEAD


def test_a_queue_that_is_declared_no_longer_is_known_by_what_it_holds(capsys):
    dead = task(queue="removed")
    assert dead in run(capsys, "dead_letters", "list", "--queue", "removed")
    assert "Requeued 1 of 1." in run(capsys, "dead_letters", "requeue", "--all", "--queue", "removed")


@pytest.mark.parametrize(
    ("name", "said"), [("drumline.pign", "Did you mean drumline.ping"), ("", "Nothing was changed")]
)
def test_a_task_that_nobody_knows_is_not_requeued(capsys, name, said):
    dead, other = task(), task(name="of.an.older.release")
    with pytest.raises(CommandError, match=f"There is no task '{name}', and no dead letter of that name.*{said}"):
        call_command("dead_letters", "requeue", "--all", "--task", name)
    assert DurableTask.objects.get(id=dead).state == State.DEAD
    assert "Requeued 1 of 1." in run(capsys, "dead_letters", "requeue", "--all", "--task", "of.an.older.release")
    assert DurableTask.objects.get(id=other).state == State.QUEUED
    # It is registered, and none of it is dead.
    assert "Requeued 0 of 0." in run(capsys, "dead_letters", "requeue", "--all", "--task", "testproject.work")


def test_a_list_says_what_it_leaves_out(capsys):
    for _ in range(3):
        task()
    assert "not listed" not in run(capsys, "dead_letters", "list", "--limit", "3")
    last = run(capsys, "dead_letters", "list", "--limit", "1", "--queue", "default").splitlines()[-1]
    assert last == "2 more are not listed. To list all: dead_letters list --queue default --limit 3"
    call_command("dead_letters", "list", "--limit", "2", "--json")
    printed = capsys.readouterr()
    assert len(json.loads(printed.out)) == 2
    assert "1 more are not listed" in printed.err
    for limit in ("0", "-1"):
        with pytest.raises(CommandError, match=f"--limit is {limit}; it must be 1 or more"):
            call_command("dead_letters", "list", "--limit", limit)


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
