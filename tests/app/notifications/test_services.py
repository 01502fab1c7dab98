from datetime import timedelta
from smtplib import SMTPServerDisconnected
from unittest import mock

import pytest
from celery.exceptions import Retry
from django.db import DatabaseError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apps.notifications import services, tasks
from apps.notifications.models import Email
from drumline.models import DurableTask

pytestmark = pytest.mark.django_db


def test_the_welcome_e_mail_is_sent_and_recorded(user, mailoutbox):
    assert services.welcome_email_send(user_id=user.pk)
    [message] = mailoutbox
    assert message.to == ["ada@example.com"]
    assert message.body.startswith("Hello Ada,")
    assert Email.objects.get().sent_at is not None


def test_somebody_without_a_name_is_greeted_by_the_address(django_user_model, mailoutbox):
    services.welcome_email_send(user_id=django_user_model.objects.create_user("bob@example.com").pk)
    assert mailoutbox[0].body.startswith("Hello bob@example.com,")


def test_a_second_run_sends_nothing(user, mailoutbox):
    services.welcome_email_send(user_id=user.pk)
    assert not services.welcome_email_send(user_id=user.pk)
    assert len(mailoutbox) == 1


def test_a_deleted_user_is_logged_and_skipped(user, mailoutbox, caplog):
    user_id = user.pk
    user.delete()
    assert not tasks.send_welcome_email(user_id)
    assert not mailoutbox
    assert "email_skipped" in caplog.text


def test_an_e_mail_that_another_worker_is_sending_is_left_to_it_for_now(user, mailoutbox):
    Email.objects.create(user=user, kind=Email.Kind.WELCOME, claimed_at=timezone.now())
    with pytest.raises(services.DeliveryClaimedError):
        services.welcome_email_send(user_id=user.pk)
    assert not mailoutbox


def test_an_e_mail_whose_sender_died_is_sent_after_the_claim_expired(user, mailoutbox):
    long_ago = timezone.now() - services.CLAIM - timedelta(seconds=1)
    Email.objects.create(user=user, kind=Email.Kind.WELCOME, claimed_at=long_ago)
    assert services.welcome_email_send(user_id=user.pk)
    assert len(mailoutbox) == 1


@pytest.mark.parametrize("error", [SMTPServerDisconnected(), ConnectionRefusedError(), TimeoutError()])
def test_a_mail_server_that_fails_gives_the_claim_back_and_is_asked_again(user, error):
    with (
        mock.patch("apps.notifications.services.send_mail", side_effect=error),
        mock.patch.object(tasks.send_welcome_email, "retry", side_effect=Retry) as retry,
        pytest.raises(Retry),
    ):
        tasks.send_welcome_email(user.pk)
    assert retry.call_args.kwargs["exc"] is error
    assert Email.objects.get().claimed_at is None


def test_many_welcome_e_mails_are_rows_of_one_transaction(django_user_model):
    users = [django_user_model(email=f"user{number}@example.com") for number in range(30)]
    ids = [user.pk for user in django_user_model.objects.bulk_create(users)]
    Email.objects.create(user_id=ids[0], kind=Email.Kind.WELCOME)

    with CaptureQueriesContext(connection) as captured:
        services.welcome_emails_request(user_ids=ids)

    assert Email.objects.filter(kind=Email.Kind.WELCOME, sent_at=None).count() == 30
    assert DurableTask.objects.filter(name="notifications.send_welcome_email", queue="high").count() == 30
    assert len([query for query in captured if "notifications_email" in query["sql"]]) == 1


@pytest.mark.django_db(transaction=True)
def test_what_the_caller_rolls_back_is_neither_sent_nor_remembered(user):
    with mock.patch("drumline.sending.enqueue.publish") as publish, pytest.raises(LookupError), transaction.atomic():
        services.welcome_emails_request(user_ids=[user.pk])
        assert DurableTask.objects.exists()
        raise LookupError
    assert not Email.objects.exists()
    assert not DurableTask.objects.exists()
    publish.assert_not_called()


@pytest.mark.usefixtures("no_ledger")
def test_what_cannot_be_sent_is_not_remembered_as_to_be_sent(user):
    with pytest.raises(DatabaseError):
        services.welcome_emails_request(user_ids=[user.pk])
    assert not Email.objects.exists()
