"""/api/reminders/ as its callers see it."""

from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from apps.notifications.models import Reminder
from drumline.models import DurableTask

pytestmark = pytest.mark.django_db


def post(client, **body):
    return client.post("/api/reminders/", body, content_type="application/json")


def reasons(answer, status):
    assert answer.status_code == status, answer.content
    assert answer["Content-Type"] == "application/problem+json"
    return {(reason["field"], reason["code"]) for reason in answer.json().get("errors", [])}


def test_a_reminder_is_scheduled_in_seconds_or_at_a_time(ada, user):
    soon = post(ada, text="Call Charles", in_seconds=3600)
    at = timezone.now().replace(microsecond=0) + timedelta(days=10)
    later = post(ada, text="Call Charles", at=at.isoformat())

    assert (soon.status_code, later.status_code) == (201, 201)
    assert set(soon.json()) == {"id", "text", "due_at", "status", "sent_at", "cancelled_at", "task_id"}
    assert later.json()["status"] == "scheduled"
    assert Reminder.objects.get(pk=later.json()["id"]).due_at == at
    assert list(Reminder.objects.values_list("user", flat=True)) == [user.pk] * 2
    assert DurableTask.objects.filter(id=later.json()["task_id"], due_at=at).exists()


def test_a_time_without_a_zone_is_the_sites(ada):
    with timezone.override("Europe/Vienna"):
        answer = post(ada, text="x", at="2027-01-04T08:00:00")
    assert datetime.fromisoformat(answer.json()["due_at"]).astimezone(UTC).hour == 7


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"in_seconds": 5}, ("text", "required")),
        ({"text": " ", "in_seconds": 5}, ("text", "blank")),
        ({"text": "x" * 1001, "in_seconds": 5}, ("text", "max_length")),
        ({"text": "x"}, ("at", "either")),
        ({"text": "x", "in_seconds": 5, "at": "2027-01-04T08:00:00Z"}, ("at", "either")),
        ({"text": "x", "in_seconds": 0}, ("in_seconds", "min_value")),
        ({"text": "x", "in_seconds": 10**9}, ("in_seconds", "max_value")),
        ({"text": "x", "in_seconds": "soon"}, ("in_seconds", "invalid")),
        ({"text": "x", "at": "2020-01-01T00:00:00Z"}, ("at", "range")),
        ({"text": "x", "at": "2999-01-01T00:00:00Z"}, ("at", "range")),
        ({"text": "x", "at": "0001-01-01T00:00:00+14:00"}, ("at", "overflow")),
        ({"text": "x", "at": "tomorrow"}, ("at", "invalid")),
        ({"text": "x\x00", "in_seconds": 5}, ("text", "null_characters_not_allowed")),
    ],
)
def test_what_cannot_be_is_refused_by_field(ada, body, reason):
    assert reasons(post(ada, **body), 400) == {reason}
    assert not Reminder.objects.exists()
    assert not DurableTask.objects.exists()


def test_everybody_lists_and_reads_their_own(ada, stranger):
    mine = post(ada, text="mine", in_seconds=60).json()
    post(stranger, text="hers", in_seconds=60)

    listed = ada.get("/api/reminders/").json()
    assert (listed["count"], [row["text"] for row in listed["results"]]) == (1, ["mine"])
    assert ada.get(f"/api/reminders/{mine['id']}/").json() == mine
    assert ada.get("/api/reminders/?page=9").status_code == 404


def test_who_asked_for_a_reminder_may_ask_about_its_task(ada, stranger):
    task = f"/api/tasks/{post(ada, text='x', in_seconds=60).json()['task_id']}/"
    assert ada.get(task).json()["queue"] == "high"
    assert reasons(stranger.get(task), 404) == set()


def test_a_reminder_is_cancelled_once_or_twice_and_stays_on_the_list(ada):
    reminder = post(ada, text="x", in_seconds=60).json()
    for _ in range(2):
        assert ada.delete(f"/api/reminders/{reminder['id']}/").status_code == 204
    assert ada.get(f"/api/reminders/{reminder['id']}/").json()["status"] == "cancelled"
    assert DurableTask.objects.get(id=reminder["task_id"]).state == DurableTask.State.DISCARDED


def test_what_was_sent_cannot_be_cancelled(ada):
    reminder = post(ada, text="x", in_seconds=60).json()
    Reminder.objects.update(sent_at=timezone.now())
    answer = ada.delete(f"/api/reminders/{reminder['id']}/")
    assert reasons(answer, 409) == set()
    assert "was sent before" in answer.json()["detail"]


def test_somebody_elses_reminder_is_not_there(ada, stranger):
    reminder = post(ada, text="x", in_seconds=60).json()
    for method in (stranger.get, stranger.delete):
        assert reasons(method(f"/api/reminders/{reminder['id']}/"), 404) == set()
    assert Reminder.objects.get().cancelled_at is None


def test_nobody_is_nobody(client):
    for answer in (
        client.get("/api/reminders/"),
        post(client, text="x", in_seconds=60),
        client.delete("/api/reminders/1/"),
    ):
        assert reasons(answer, 403) == set()


def test_too_many_requests_are_refused(ada, monkeypatch):
    monkeypatch.setattr("rest_framework.throttling.ScopedRateThrottle.THROTTLE_RATES", {"reminders": "2/min"})
    answers = [ada.get("/api/reminders/") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert int(answers[-1]["Retry-After"]) > 0


def test_the_openapi_document_is_valid_and_without_warnings(capsys, tmp_path):
    from django.core.management import call_command

    call_command("spectacular", "--validate", "--fail-on-warn", "--file", str(tmp_path / "schema.yml"))
    assert capsys.readouterr().err == ""
