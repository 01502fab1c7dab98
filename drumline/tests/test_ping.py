"""ping proves each worker by a task that it has run, and names those that ran none."""

import uuid

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from drumline.management.commands import ping
from drumline.models import DurableTask, Worker

pytestmark = pytest.mark.django_db


def worker(name: str, **fields: object) -> Worker:
    now = timezone.now()
    return Worker.objects.create(
        id=uuid.uuid4(), name=name, host="app1", pid=1, queues="high", started_at=now, beat_at=now, **fields
    )


def test_a_worker_that_took_a_ping_is_proved_and_its_idle_sibling_is_named(capsys, monkeypatch):
    first = worker("high-1@app1")
    worker("high-2@app1")
    # As if the first of them took whatever is sent.
    monkeypatch.setattr(ping.time, "sleep", lambda _: DurableTask.objects.update(worker_id=first.id, state=1))

    with pytest.raises(CommandError) as caught:
        call_command("ping", "high-1@app1", "high-2@app1", "--wait", "0.5")

    assert str(caught.value) == "high-2@app1 is alive but ran no task within 0.5 s"
    assert capsys.readouterr().out == "high-1@app1 runs tasks\n"
    assert {row.queue for row in DurableTask.objects.all()} == {"high"}


def test_a_worker_that_is_at_work_or_has_been_needs_no_ping(capsys):
    worker("high-1@app1", running=1)
    worker("high-2@app1", done=7)

    call_command("ping", "high-1@app1", "high-2@app1")

    assert capsys.readouterr().out.count("runs tasks") == 2
    assert not DurableTask.objects.exists()


def test_what_an_earlier_life_of_a_worker_has_done_proves_nothing():
    worker("high-1@app1", done=7, stopped_at=timezone.now())

    with pytest.raises(CommandError, match="high-1@app1 is not alive: it sent no heartbeat"):
        call_command("ping", "high-1@app1", "--wait", "0")
