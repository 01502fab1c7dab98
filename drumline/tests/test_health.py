from datetime import timedelta

import pytest
from celery import current_app
from django.core.management import CommandError, call_command
from django.utils import timezone

from drumline.health import checks
from drumline.health.heartbeats import heartbeat_write
from drumline.models import DurableTask, Heartbeat


def test_livez_answers_without_the_database(client):
    answer = client.get("/livez", headers={"Host": "anything.example"})
    assert answer.status_code == 200
    assert answer.json() == {"status": "ok"}
    assert answer["Cache-Control"] == "no-store"


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_health_is_only_read(client, path):
    assert client.post(path).status_code == 405


@pytest.mark.django_db
def test_readyz_names_the_broker_when_it_is_down_and_tells_no_secret(client, caplog):
    answer = client.get("/readyz")
    assert answer.status_code == 503
    body = answer.json()
    assert body["status"] == "error"
    assert set(body["checks"]) == {"database", "broker", "migrations", "publishing"}
    assert body["checks"]["broker"]["status"] == "error"
    assert body["checks"]["database"]["status"] == "ok"
    assert "127.0.0.1" not in answer.content.decode()
    assert "not_ready" in caplog.text


@pytest.mark.django_db
def test_readyz_is_ok_when_every_part_is(client, monkeypatch):
    monkeypatch.setattr(checks, "_broker_answers", lambda: None)
    answer = client.get("/readyz")
    assert answer.status_code == 200, answer.content
    assert all(check["milliseconds"] >= 0 for check in answer.json()["checks"].values())


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("no_broker")
def test_readyz_fails_when_due_tasks_are_not_published_although_the_broker_answers(client, monkeypatch):
    monkeypatch.setattr(checks, "_broker_answers", lambda: None)
    current_app.tasks["drumline.ping"].apply_async(countdown=0.001)
    DurableTask.objects.update(due_at=timezone.now() - timedelta(seconds=50))
    assert client.get("/readyz").status_code == 200
    call_command("ledger", "status")

    DurableTask.objects.update(due_at=timezone.now() - timedelta(seconds=70))
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["checks"]["publishing"]["reason"] == "due tasks have waited to be published for more than 60 s"
    assert answer.json()["checks"]["broker"]["status"] == "ok"
    with pytest.raises(CommandError, match=r"waited .* s to be published, longer than 60 s"):
        call_command("ledger", "status")


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("no_broker")
def test_a_long_backlog_that_a_relay_works_off_takes_no_site_out_of_service(client, monkeypatch):
    monkeypatch.setattr(checks, "_broker_answers", lambda: None)
    current_app.tasks["drumline.ping"].apply_async(countdown=0.001)
    DurableTask.objects.update(due_at=timezone.now() - timedelta(hours=1))
    heartbeat_write(name="relay@h1")
    heartbeat_write(name="publishing@h1")
    assert client.get("/readyz").status_code == 200
    call_command("ledger", "status")

    Heartbeat.objects.filter(name="publishing@h1").update(at=timezone.now() - timedelta(seconds=70))
    assert client.get("/readyz").status_code == 503, "its relay lives, and could not publish for more than 60 s"
    with pytest.raises(CommandError, match=r"no relay was able to publish for as long"):
        call_command("ledger", "status")


def test_ping_says_which_queue_delivered_it():
    result = current_app.tasks["drumline.ping"].apply(routing_key="high").get()
    assert result["queue"] == "high"
    assert {"host", "at"} <= set(result)
