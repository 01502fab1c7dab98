import pytest
from celery import current_app

from drumline.health import checks


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
    assert set(body["checks"]) == {"database", "broker", "migrations"}
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


def test_ping_says_which_queue_delivered_it():
    result = current_app.tasks["core.ping"].apply(routing_key="high").get()
    assert result["queue"] == "high"
    assert {"host", "at"} <= set(result)
