"""The weekly digest: to all who want it, each a task of its own, once a week."""

from datetime import date, datetime, timedelta
from smtplib import SMTPRecipientsRefused
from unittest import mock
from zoneinfo import ZoneInfo

import pytest
from celery.exceptions import Retry
from django.utils import timezone

from apps.notifications import services, tasks
from apps.notifications.models import Email, Reminder
from apps.notifications.selectors import monday_of, reminders_of_week
from drumline.models import DurableTask

pytestmark = pytest.mark.django_db

MONDAY = "2026-11-23"
VIENNA = ZoneInfo("Europe/Vienna")


@pytest.fixture
def people(django_user_model):
    create = django_user_model.objects.create_user
    create("gone@example.com", is_active=False)
    create("no@example.com", weekly_digest=False)
    return [create(f"user{number}@example.com") for number in range(5)]


def digests():
    return DurableTask.objects.filter(name="notifications.send_weekly_digest_to_user", queue="low")


def test_it_fans_out_in_chunks_to_active_users_who_want_it(people, monkeypatch):
    monkeypatch.setattr(services, "CHUNK", 2)
    groups = []
    real = services.group
    monkeypatch.setattr(services, "group", lambda members: groups.append(members := list(members)) or real(members))

    assert tasks.send_weekly_digest(MONDAY) == 5

    assert [len(members) for members in groups] == [2, 2, 1]
    assert [tuple(task.args) for members in groups for task in members] == [(user.pk, MONDAY) for user in people]
    assert digests().count() == 5


def test_a_second_fan_out_in_the_same_week_adds_nothing(people):
    services.weekly_digest_send(day="2026-11-23")
    services.weekly_digest_send(day="2026-11-29")
    assert digests().count() == len(people)
    services.weekly_digest_send(day="2026-11-30")
    assert digests().count() == 2 * len(people)


def test_without_a_day_it_is_this_week_by_the_sites_clock(people, settings):
    settings.TIME_ZONE = "Europe/Vienna"
    # A Monday in Vienna, and still Sunday in UTC.
    now = datetime(2026, 11, 23, 0, 30, tzinfo=VIENNA)
    with mock.patch("django.utils.timezone.now", return_value=now), timezone.override(VIENNA):
        services.weekly_digest_send()
    assert all(MONDAY in message for message in digests().values_list("message", flat=True))
    assert digests().count() == len(people)


def test_each_user_gets_one_e_mail_a_week_with_the_reminders_of_the_week(user, mailoutbox):
    for day, text in ((23, "first"), (29, "last"), (30, "too late"), (22, "too early")):
        services.reminder_schedule(user=user, text=text, at=datetime(2026, 11, day, 12, tzinfo=VIENNA))
    for _ in range(2):
        tasks.send_weekly_digest_to_user(user.pk, MONDAY)
    tasks.send_weekly_digest_to_user(user.pk, "2026-12-07")

    this, later = mailoutbox
    assert "Monday 11:00  first" in this.body
    assert "Sunday 11:00  last" in this.body
    assert "too" not in this.body
    assert "none" in later.body
    assert set(Email.objects.values_list("kind", "week")) == {("digest", MONDAY), ("digest", "2026-12-07")}


def test_who_left_or_opted_out_meanwhile_is_skipped(user, mailoutbox):
    user.weekly_digest = False
    user.save()
    assert not tasks.send_weekly_digest_to_user(user.pk, MONDAY)
    user.delete()
    assert not tasks.send_weekly_digest_to_user(user.pk, MONDAY)
    assert not mailoutbox
    assert not Email.objects.exists()


def test_a_user_whose_e_mail_is_refused_is_asked_again_and_holds_up_nobody(people, mailoutbox):
    refused = SMTPRecipientsRefused({"user0@example.com": (550, b"no such user")})
    with (
        mock.patch("apps.notifications.services.send_mail", side_effect=refused),
        mock.patch.object(tasks.send_weekly_digest_to_user, "retry", side_effect=Retry),
        pytest.raises(Retry),
    ):
        tasks.send_weekly_digest_to_user(people[0].pk, MONDAY)
    for user in people[1:]:
        tasks.send_weekly_digest_to_user(user.pk, MONDAY)
    assert len(mailoutbox) == 4
    assert Email.objects.filter(sent_at=None).get().user == people[0]


def test_a_day_that_is_none_fails_and_sends_nothing(people):  # noqa: ARG001
    with pytest.raises(ValueError, match="next monday"):
        services.weekly_digest_send(day="next monday")
    assert not digests().exists()


@pytest.mark.parametrize(("day", "monday"), [(23, 23), (25, 23), (29, 23), (30, 30)])
def test_a_week_begins_on_monday(day, monday):
    assert monday_of(date(2026, 11, day)) == date(2026, 11, monday)


@pytest.mark.parametrize(("monday", "hours"), [(date(2026, 3, 23), 167), (date(2026, 10, 19), 169)])
def test_a_week_with_a_change_of_the_clocks_is_complete(user, monday, hours):
    with timezone.override(VIENNA):
        start = datetime(monday.year, monday.month, monday.day, tzinfo=VIENNA)
        for offset in range(-1, hours + 1):
            at = start.astimezone(ZoneInfo("UTC")) + timedelta(hours=offset)
            Reminder.objects.create(user=user, text=str(offset), due_at=at, task_id=f"{offset + 1:032x}")
        found = [int(reminder.text) for reminder in reminders_of_week(user=user, monday=monday)]
    assert found == list(range(hours))
