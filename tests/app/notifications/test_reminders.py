"""Reminders: at their time, once, and not at all when they were cancelled."""

from datetime import UTC, datetime, timedelta
from unittest import mock

import pytest
from celery.exceptions import Retry
from django.db import DatabaseError
from django.utils import timezone

from apps.notifications import services, tasks
from apps.notifications.models import Reminder
from drumline.models import DurableTask

pytestmark = pytest.mark.django_db


def task_of(reminder: Reminder) -> DurableTask:
    return DurableTask.objects.get(id=reminder.task_id)


def scheduled(user, **when) -> Reminder:
    return services.reminder_schedule(user=user, text="Water the plants", **(when or {"in_seconds": 3600}))


@pytest.mark.parametrize("ahead", [timedelta(hours=1), timedelta(days=10)])
def test_a_reminder_waits_in_the_ledger_by_countdown_and_by_eta(user, ahead):
    before = timezone.now()
    by_countdown = scheduled(user, in_seconds=int(ahead.total_seconds()))
    by_eta = scheduled(user, at=before + ahead)

    for reminder in (by_countdown, by_eta):
        task = task_of(reminder)
        assert (task.name, task.queue, task.state) == (
            "notifications.send_reminder",
            "high",
            DurableTask.State.QUEUED,
        )
        assert task.published_at is None
        assert abs(task.due_at - reminder.due_at) < timedelta(seconds=1)
        assert abs(task.due_at - before - ahead) < timedelta(seconds=5)
    assert task_of(by_eta).due_at == before + ahead


def test_an_eta_of_another_time_zone_is_the_same_moment(user):
    reminder = scheduled(user, at=datetime.fromisoformat("2026-12-24T18:00:00+01:00"))
    assert task_of(reminder).due_at == datetime(2026, 12, 24, 17, tzinfo=UTC)


def test_it_is_sent_once_however_often_it_is_delivered(user, mailoutbox):
    reminder = scheduled(user)
    assert tasks.send_reminder(reminder.pk)
    assert not tasks.send_reminder(reminder.pk)
    [message] = mailoutbox
    assert (message.to, message.subject, message.body) == (["ada@example.com"], "Your reminder", "Water the plants\n")
    reminder.refresh_from_db()
    assert reminder.status == Reminder.Status.SENT


def test_a_user_deleted_meanwhile_is_logged_and_skipped(user, mailoutbox, caplog):
    reminder = scheduled(user)
    user.delete()
    assert not tasks.send_reminder(reminder.pk)
    assert not mailoutbox
    assert "email_skipped" in caplog.text


def test_a_cancelled_reminder_gives_its_task_up_and_twice_is_as_good_as_once(user, mailoutbox):
    reminder = scheduled(user)
    services.reminder_cancel(reminder=reminder)
    assert task_of(reminder).state == DurableTask.State.DISCARDED
    services.reminder_cancel(reminder=reminder)
    task = task_of(reminder)
    assert task.state == DurableTask.State.DISCARDED
    assert len(task.history) == 1
    assert Reminder.objects.get().status == Reminder.Status.CANCELLED
    # A worker may have had it already.
    assert not tasks.send_reminder(reminder.pk)
    assert not mailoutbox


@pytest.mark.usefixtures("no_ledger")
def test_a_reminder_whose_task_cannot_be_written_is_not_stored(user):
    with pytest.raises(DatabaseError):
        scheduled(user)
    assert not Reminder.objects.exists()


def test_a_reminder_whose_task_cannot_be_given_up_is_not_cancelled(user, monkeypatch):
    reminder = scheduled(user)
    monkeypatch.setattr(services, "discard", mock.Mock(side_effect=DatabaseError))
    with pytest.raises(DatabaseError):
        services.reminder_cancel(reminder=reminder)
    assert Reminder.objects.get().cancelled_at is None


def test_what_was_sent_cannot_be_cancelled(user):
    reminder = scheduled(user)
    services.reminder_send(reminder_id=reminder.pk)
    with pytest.raises(services.ReminderSentError):
        services.reminder_cancel(reminder=reminder)
    assert Reminder.objects.get().cancelled_at is None


def test_what_is_being_sent_cannot_be_cancelled_until_its_sender_counts_as_dead(user):
    reminder = scheduled(user)
    Reminder.objects.update(claimed_at=timezone.now())
    with pytest.raises(services.ReminderSentError):
        services.reminder_cancel(reminder=reminder)
    Reminder.objects.update(claimed_at=timezone.now() - services.CLAIM - timedelta(seconds=1))
    services.reminder_cancel(reminder=reminder)
    assert Reminder.objects.get().status == Reminder.Status.CANCELLED


def test_a_mail_server_that_fails_gives_the_claim_back_and_is_asked_again(user):
    reminder = scheduled(user)
    with (
        mock.patch("apps.notifications.services.send_mail", side_effect=ConnectionRefusedError),
        mock.patch.object(tasks.send_reminder, "retry", side_effect=Retry) as retry,
        pytest.raises(Retry),
    ):
        tasks.send_reminder(reminder.pk)
    assert isinstance(retry.call_args.kwargs["exc"], ConnectionRefusedError)
    reminder.refresh_from_db()
    assert (reminder.claimed_at, reminder.status) == (None, Reminder.Status.SCHEDULED)
