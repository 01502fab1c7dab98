"""Nobody but who reads the mail of an address can have anything sent to it."""

import re
from datetime import timedelta
from unittest import mock
from urllib.parse import unquote

import pytest
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.test import Client
from django.utils import timezone

from apps.notifications import services as notifications
from apps.notifications import tasks as mails
from apps.notifications.models import Email, Reminder
from apps.users import services, tasks
from apps.users.verification import LIFETIME, token_make
from drumline.models import DurableTask
from tests.app.shop import an_order

User = get_user_model()
PASSWORD = "difference engine no. 2"

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("no_broker")]


@pytest.fixture
def newcomer():
    return services.user_create(email="new@example.com", password=PASSWORD, full_name="Buy at evil.example")


@pytest.fixture
def browser(newcomer):
    browser = Client()
    browser.force_login(newcomer)
    return browser


def verify(client, token):
    return client.post("/api/users/verify/", {"token": token}, content_type="application/json")


def sent_tasks():
    return sorted(DurableTask.objects.values_list("name", flat=True))


def test_the_link_in_the_e_mail_asks_confirms_and_brings_the_welcome_once(newcomer, mailoutbox, client):
    [task] = DurableTask.objects.all()
    assert mails.send_verification_email(newcomer.pk, timezone.localdate().isoformat())
    [message] = mailoutbox
    assert message.to == ["new@example.com"]
    assert "evil" not in message.body, "the words of who typed the address"
    link = re.search(r"https://testserver(/verify-email/\?token=(\S+))", message.body)

    page = client.get(link[1])
    assert page.status_code == 200
    assert "no-store" in page["Cache-Control"]
    newcomer.refresh_from_db()
    assert newcomer.email_verified_at is None, "a program that looks for viruses opens links"

    for _ in range(2):
        assert client.post("/verify-email/", {"token": unquote(link[2])}).status_code == 200
    newcomer.refresh_from_db()
    assert newcomer.email_verified_at is not None
    assert sent_tasks() == [task.name, "notifications.send_welcome_email"]


def test_a_front_end_confirms_through_the_api(newcomer, client):
    answer = verify(client, token_make(newcomer))
    assert (answer.status_code, answer.json()["email"]) == (200, "new@example.com")
    assert "notifications.send_welcome_email" in sent_tasks()


@pytest.mark.parametrize(
    "forge",
    [
        lambda _: "",
        lambda token: token[:-1],
        lambda token: token.replace(":", "", 1),
        lambda token: "9" * 30 + token[token.index(":") :],
        lambda token: "²" + token[token.index(":") :],
        lambda token: "0" + token[token.index(":") :],
    ],
)
def test_a_token_that_the_site_did_not_make_proves_nothing(newcomer, client, forge):
    token = forge(token_make(newcomer))
    assert verify(client, token).status_code == 400
    assert client.post("/verify-email/", {"token": token}).status_code == 400
    newcomer.refresh_from_db()
    assert newcomer.email_verified_at is None


def test_a_token_of_another_account_address_or_day_proves_nothing(newcomer, client, user):
    token = token_make(newcomer)
    swapped = f"{user.pk}{token[token.index(':') :]}"
    assert verify(client, swapped).status_code == 400
    with mock.patch("time.time", return_value=timezone.now().timestamp() + LIFETIME.total_seconds() + 1):
        assert verify(client, token).status_code == 400
    User.objects.filter(pk=newcomer.pk).update(email="other@example.com")
    assert verify(client, token).status_code == 400
    newcomer.refresh_from_db()
    assert newcomer.email_verified_at is None


def test_a_deactivated_account_is_not_verified(newcomer, client):
    User.objects.update(is_active=False)
    assert verify(client, token_make(newcomer)).status_code == 400


def test_an_unverified_account_looks_and_causes_no_mail(browser, newcomer, mailoutbox):
    assert browser.get("/api/session/").json()["email_verified"] is False
    assert browser.get("/api/reminders/").status_code == 200
    refused = browser.post("/api/reminders/", {"text": "spam", "in_seconds": 5}, content_type="application/json")
    assert refused.status_code == 403
    assert "Confirm your e-mail address first" in refused.json()["detail"]
    assert not Reminder.objects.exists()
    # Whatever else might have sent for it, such as a release before this one.
    reminder = notifications.reminder_schedule(user=newcomer, text="spam", in_seconds=5)
    assert not mails.send_reminder(reminder.pk)
    assert not mails.send_welcome_email(newcomer.pk)
    assert not mails.send_weekly_digest_to_user(newcomer.pk, "2026-11-23")
    assert mails.send_weekly_digest() == 0
    assert mailoutbox == []


def test_the_e_mail_that_asks_is_repeated_once_a_day_and_not_after_it_was_answered(browser, newcomer, mailoutbox):
    again = lambda: browser.post("/api/users/verification-email/").status_code  # noqa: E731
    assert [again(), again()] == [409, 409]
    Email.objects.update(week="2026-11-01")
    assert [again(), again()] == [202, 409]
    assert DurableTask.objects.filter(name="notifications.send_verification_email").count() == 2
    User.objects.update(email_verified_at=timezone.now())
    Email.objects.all().delete()
    assert again() == 409
    assert not mails.send_verification_email(newcomer.pk, "2026-11-01")
    assert mailoutbox == []


def test_a_mailbox_is_used_for_three_accounts_a_day_however_it_is_spelt(client):
    def sign_up(email):
        body = {"email": email, "password": PASSWORD}
        return client.post("/api/users/", body, content_type="application/json").status_code

    spellings = ["ada+1@example.com", "ADA+2@example.com", "ada@example.com", "ada+3@example.com"]
    assert [sign_up(email) for email in spellings] == [201, 201, 201, 429]
    assert [sign_up(email) for email in ("adam@example.com", "ada+1@example.org")] == [201, 201]
    User.objects.update(created_at=timezone.now() - timedelta(days=1))
    assert sign_up("ada+3@example.com") == 201


def test_an_account_has_twenty_reminders_in_any_day_and_cancelled_ones_do_not_count(ada, user):
    def remind(at):
        return ada.post("/api/reminders/", {"text": "x", "at": at.isoformat()}, content_type="application/json")

    then = timezone.now() + timedelta(days=10)
    created = [remind(then + timedelta(minutes=number)) for number in range(20)]
    assert {answer.status_code for answer in created} == {201}
    refused = remind(then - timedelta(hours=23))
    assert (refused.status_code, refused.json()["detail"]) == (429, "At most 20 reminders in 24 hours.")
    assert remind(then - timedelta(hours=25)).status_code == 201
    ada.delete(f"/api/reminders/{created[0].json()['id']}/")
    assert remind(then).status_code == 201
    assert Reminder.objects.filter(user=user).count() == 22


def test_accounts_that_are_never_verified_are_deleted_after_a_week_but_those_with_orders(user):
    fresh, old, customer = (User.objects.create(email=f"{name}@example.com") for name in ("fresh", "old", "customer"))
    an_order(customer=customer)
    long_ago = timezone.now() - services.UNVERIFIED_KEPT - timedelta(minutes=1)
    User.objects.exclude(pk=fresh.pk).update(created_at=long_ago)
    assert tasks.cleanup_unverified() == 1
    assert set(User.objects.all()) == {user, fresh, customer}
    assert not User.objects.filter(pk=old.pk).exists()


@pytest.mark.django_db(transaction=True)
def test_accounts_from_before_are_taken_for_verified_by_the_migration():
    def migrated_to(name):
        executor = MigrationExecutor(connection)
        executor.migrate([("users", name)])
        return executor.loader.project_state([("users", name)]).apps.get_model("users", "User")

    try:
        migrated_to("0002_weekly_digest").objects.create(email="old@example.com")
        old = migrated_to("0003_email_verified").objects.get()
    finally:
        call_command("migrate", verbosity=0)
    assert old.email_verified_at == old.created_at
