"""Answers of the API stay out of every cache but those that a view allows."""

import pytest

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    "path",
    ["session/", "orders/", "orders/1/", "reminders/", "reports/", "reports/1/", "tasks/x/", "imports/", "nothing/"],
)
def test_a_private_answer_is_stored_nowhere(ada, path):
    assert ada.get(f"/api/{path}")["Cache-Control"] == "no-store"


def test_neither_is_a_refusal_nor_what_a_request_has_stored(client, ada):
    assert client.get("/api/orders/")["Cache-Control"] == "no-store"
    reminder = ada.post("/api/reminders/", {"text": "x", "in_seconds": 60}, content_type="application/json")
    assert (reminder.status_code, reminder["Cache-Control"]) == (201, "no-store")
    assert ada.generic("POST", "/api/users/", b"x" * 1_000_001)["Cache-Control"] == "no-store"
