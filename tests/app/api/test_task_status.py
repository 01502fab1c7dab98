"""What a person is told of a task that they asked for, and what nobody else is."""

import uuid

import pytest
from celery import current_app, signature

from drumline.ledger import ends, operators, recovery
from drumline.ledger.portable import PortableStore
from drumline.models import DurableTask
from drumline.sending.owners import owned

pytestmark = pytest.mark.django_db

WORKER = uuid.uuid4()


@pytest.fixture
def task(user):
    """A task of Ada's whose argument is a secret."""
    owned(signature("notifications.send_welcome_email", args=("the secret plan",)), owner=user.pk).apply_async()
    return DurableTask.objects.get()


def status(client, task_id) -> dict:
    answer = client.get(f"/api/tasks/{task_id}/")
    assert answer.status_code == 200, answer.content
    assert "secret" not in answer.content.decode()
    return answer.json()


def test_a_tasks_way_can_be_followed(ada, task):
    queued = status(ada, task.id)
    assert set(queued) == {"id", "state", "queue", "attempts", "created_at", "started_at", "finished_at", "error"}
    assert (queued["id"], queued["state"], queued["queue"]) == (str(task.id), "queued", "high")
    assert (queued["attempts"], queued["started_at"]) == (0, None)

    run = PortableStore().claim(task.id, 0.0, WORKER, [])
    running = status(ada, task.id)
    assert (running["state"], running["attempts"], running["finished_at"]) == ("running", 1, None)
    assert running["started_at"] is not None

    PortableStore().finish(WORKER, [run])
    finished = status(ada, task.id)
    assert (finished["state"], finished["error"]) == ("finished", "")
    assert finished["finished_at"] is not None


def test_of_an_error_only_the_class_is_told(ada, task):
    run = PortableStore().claim(task.id, 0.0, WORKER, [])
    PortableStore().fail(WORKER, run, "ValueError: the secret plan: all of it", "the secret traceback")
    dead = status(ada, task.id)
    assert (dead["state"], dead["error"]) == ("dead", "ValueError")


@pytest.mark.parametrize(
    ("fail", "error"),
    [
        (ends.task_failed, "TimeLimitExceeded"),
        (recovery.task_lost, "WorkerLostError"),
    ],
)
def test_what_no_process_could_report_has_a_class_too(ada, task, fail, error):
    DurableTask.objects.update(max_attempts=1)
    PortableStore().claim(task.id, 0.0, WORKER, [])
    fail(task.id, worker_id=WORKER, error="it ended badly: secret")
    assert status(ada, task.id)["error"] == error


def test_a_task_that_no_worker_knows_has_a_class_too(ada, task, monkeypatch):
    monkeypatch.setattr(ends, "UNKNOWN_DELIVERIES", 1)
    ends.task_deferred(task.id, error="no worker knows it")
    assert status(ada, task.id)["error"] == "NotRegistered"


def test_a_discarded_task_does_not_say_who_gave_it_up(ada, task):
    operators.discard([task.id], reason="secret", by="root@example.com")
    discarded = status(ada, task.id)
    assert (discarded["state"], discarded["error"]) == ("discarded", "")


def test_strangers_and_unknown_ids_get_the_same_answer(ada, task, client, django_user_model):
    current_app.tasks["drumline.ping"].apply_async(task_id="nobody-asked-for-it")
    unknown = ada.get(f"/api/tasks/{uuid.uuid4()}/")
    assert unknown.status_code == 404
    assert unknown["Content-Type"] == "application/problem+json"
    for path in ("nobody-asked-for-it", "%00", "\N{SNOWMAN}", "x" * 5000):
        assert ada.get(f"/api/tasks/{path}/").json() == unknown.json()

    client.force_login(django_user_model.objects.create_superuser("root@example.com", "difference engine no. 2"))
    assert client.get(f"/api/tasks/{task.id}/").json() == unknown.json()
    client.logout()
    assert client.get(f"/api/tasks/{task.id}/").status_code == 403


def test_an_id_that_is_no_uuid_is_found_and_told_as_it_was_sent(ada, user):
    owned(signature("drumline.ping"), owner=user.pk).apply_async(task_id="ping of the day")
    assert status(ada, "ping of the day")["id"] == "ping of the day"


def test_asking_too_often_is_refused(ada, task, monkeypatch):
    monkeypatch.setattr("rest_framework.throttling.ScopedRateThrottle.THROTTLE_RATES", {"tasks.read": "1/min"})
    status(ada, task.id)
    assert ada.get(f"/api/tasks/{task.id}/").status_code == 429
