"""From a request to the e-mail, with tasks that run where they are sent."""

import re
from urllib.parse import unquote

import pytest
from django.core import mail

from apps.notifications.tasks import send_weekly_digest

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _eager(settings):
    settings.CELERY_TASK_ALWAYS_EAGER = True


def test_a_new_account_gets_its_e_mail(client):
    account = {"email": "ada@example.com", "password": "difference engine no. 2", "full_name": "Ada"}
    assert client.post("/api/users/", account, content_type="application/json").status_code == 201
    [asked] = mail.outbox
    assert (asked.to, asked.subject) == (["ada@example.com"], "Confirm your e-mail address")
    token = re.search(r"token=(\S+)", asked.body)[1]
    assert client.post("/verify-email/", {"token": unquote(token)}).status_code == 200
    assert [(message.to, message.subject) for message in mail.outbox[1:]] == [(["ada@example.com"], "Welcome")]


def test_a_reminder_and_a_digest_reach_their_user(client, user):
    client.force_login(user)
    body = {"text": "Water the plants", "in_seconds": 60}
    assert client.post("/api/reminders/", body, content_type="application/json").status_code == 201
    assert send_weekly_digest.delay().get() == 1
    reminder, digest = mail.outbox
    assert reminder.subject == "Your reminder"
    assert digest.subject.startswith("Your week from ")
    assert "Water the plants" in digest.body
