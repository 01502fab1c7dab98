"""Sending notifications.

What is to be sent later is written in the caller's transaction, the task with it: both exist when it commits, or neither.
Tasks are sent by name, because their module imports this one.
"""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from itertools import islice
from typing import Any
from urllib.parse import urlencode
from uuid import UUID, uuid4, uuid5

import structlog
from celery import Signature, group, signature
from django.conf import settings
from django.core.mail import send_mail
from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from apps.notifications.models import Email, Reminder
from apps.notifications.selectors import monday_of, reminders_of_week
from apps.users.models import User
from apps.users.selectors import digest_users, user_find
from apps.users.verification import LIFETIME, token_make
from drumline import discard, owned

logger = structlog.get_logger(__name__)

# Longer than a conversation with a slow mail server takes; after it the sender is believed dead.
CLAIM = timedelta(minutes=2)
# Reminders that an account may have in any 24 hours: with them, all the mail that it can cause.
REMINDERS = 20
# Rows of one INSERT, and tasks of one group.
CHUNK = 1000
# Namespace of the task ids of digests.
DIGESTS = UUID("0d1a3d2e-6f0f-4c57-9a0b-3a5f0c1b7e64")


class DeliveryClaimedError(Exception):
    """Another worker is sending this now; whether it succeeds is not known yet."""


class ReminderSentError(Exception):
    """The reminder was sent, or is being sent now."""


class TooManyRemindersError(Exception):
    """The account has as many reminders around that time as it may have."""


@transaction.atomic
def verification_email_request(*, user_id: int) -> bool:
    """Have the e-mail sent that proves the address, once a day at the most; return whether this call did."""
    day = timezone.localdate().isoformat()
    _, created = Email.objects.get_or_create(user_id=user_id, kind=Email.Kind.VERIFICATION, week=day)
    if created:
        signature("notifications.send_verification_email", args=(user_id, day)).apply_async()
    return created


def verification_email_send(*, user_id: int, day: str) -> bool:
    """Send the e-mail that proves the address unless it was sent that day; return whether this call did.

    Its reader may be a stranger to the person who typed the address: nothing in it is that person's choice.
    """
    user = user_find(user_id=user_id)
    if user is None or user.email_verified_at:
        return _skip("verification", "the user is gone, or verified", user_id=user_id)
    email, _ = Email.objects.get_or_create(user=user, kind=Email.Kind.VERIFICATION, week=day)
    link = f"{settings.SITE_URL}/verify-email/?{urlencode({'token': token_make(user)})}"
    text = (
        f"Somebody has signed up with the address {user.email}. If it was you, confirm it within {LIFETIME.days} days:\n\n"
        f"{link}\n\nIf it was not, do nothing: the account will be deleted.\n"
    )
    rows = Email.objects.filter(pk=email.pk)
    return _send_once("verification", rows, user, subject="Confirm your e-mail address", text=text)


@transaction.atomic
def welcome_emails_request(*, user_ids: Sequence[int]) -> None:
    """Send any number of welcome e-mails as one group. A user who received one receives no other."""
    emails = [Email(user_id=user_id, kind=Email.Kind.WELCOME) for user_id in user_ids]
    Email.objects.bulk_create(emails, batch_size=CHUNK, ignore_conflicts=True)
    group(signature("notifications.send_welcome_email", args=(user_id,)) for user_id in user_ids).apply_async()


def welcome_email_send(*, user_id: int) -> bool:
    """Send the welcome e-mail unless it was sent; return whether this call did."""
    user = user_find(user_id=user_id)
    if user is None:
        return _skip("welcome", "the user is gone", user_id=user_id)
    email, _ = Email.objects.get_or_create(user=user, kind=Email.Kind.WELCOME)
    text = f"Hello {user.full_name or user.email},\n\nyour account is ready.\n"
    return _send_once("welcome", Email.objects.filter(pk=email.pk), user, subject="Welcome", text=text)


@transaction.atomic
def reminder_schedule(*, user: User, text: str, at: datetime | None = None, in_seconds: int = 0) -> Reminder:
    """Have a reminder sent at that time, or else in so many seconds, whatever is restarted until then.

    Raises TooManyRemindersError where the account would have more than REMINDERS in any 24 hours.
    """
    due_at = at or timezone.now() + timedelta(seconds=in_seconds)
    # Locked, so that of two requests at the same moment each counts the other's.
    User.objects.select_for_update(no_key=True).get(pk=user.pk)
    around = (due_at - timedelta(days=1), due_at + timedelta(days=1))
    if Reminder.objects.filter(user=user, due_at__range=around, cancelled_at=None).count() >= REMINDERS:
        raise TooManyRemindersError
    reminder = Reminder.objects.create(user=user, text=text, due_at=due_at, task_id=uuid4())
    when = {"eta": at} if at else {"countdown": in_seconds}
    task = owned(signature("notifications.send_reminder", args=(reminder.pk,)), owner=user.pk)
    task.apply_async(task_id=str(reminder.task_id), **when)
    return reminder


@transaction.atomic
def reminder_cancel(*, reminder: Reminder) -> None:
    """See to it that the reminder is never sent; raise ReminderSentError when it is too late. Twice is as good as once.

    The row decides, since a worker may have the task already; the task is discarded so that it does not wait in vain.
    """
    scheduled = Reminder.objects.filter(_free(), pk=reminder.pk, sent_at=None, cancelled_at=None)
    if scheduled.update(cancelled_at=timezone.now()):
        discard([reminder.task_id], reason="the reminder was cancelled", by=f"user {reminder.user_id}")
    reminder.refresh_from_db()
    if reminder.status != Reminder.Status.CANCELLED:
        raise ReminderSentError


def reminder_send(*, reminder_id: int) -> bool:
    """Send the reminder unless it was sent or cancelled; return whether this call did."""
    reminder = Reminder.objects.select_related("user").filter(pk=reminder_id).first()
    if reminder is None:
        return _skip("reminder", "the user is gone", reminder_id=reminder_id)
    rows = Reminder.objects.filter(pk=reminder_id, cancelled_at=None)
    return _send_once("reminder", rows, reminder.user, subject="Your reminder", text=f"{reminder.text}\n")


def weekly_digest_send(*, day: str | None = None) -> int:
    """Have the digest of a day's week, of today's without one, sent to all who want it; return to how many.

    A chunk of users is one group. Each user is a task of its own, so that one that fails holds up nobody.
    """
    week = monday_of(date.fromisoformat(day) if day else timezone.localdate()).isoformat()
    user_ids = digest_users().order_by("pk").values_list("pk", flat=True).iterator(chunk_size=CHUNK)
    number = 0
    while chunk := list(islice(user_ids, CHUNK)):
        group(_digest_task(user_id, week) for user_id in chunk).apply_async()
        number += len(chunk)
    logger.info("weekly_digest_requested", week=week, users=number)
    return number


def _digest_task(user_id: int, week: str) -> Signature[bool]:
    # The same id each time: what runs again after a crash sends nobody a second task.
    task_id = str(uuid5(DIGESTS, f"{week} {user_id}"))
    return signature("notifications.send_weekly_digest_to_user", args=(user_id, week), task_id=task_id)


def user_digest_send(*, user_id: int, week: str) -> bool:
    """Send one user's digest of the week that begins on that day, unless it was sent; return whether this call did."""
    user = digest_users().filter(pk=user_id).first()
    if user is None:
        return _skip("digest", "the user is gone, or does not want it", user_id=user_id)
    email, _ = Email.objects.get_or_create(user=user, kind=Email.Kind.DIGEST, week=week)
    lines = [
        f"{timezone.localtime(reminder.due_at):%A %H:%M}  {reminder.text}"
        for reminder in reminders_of_week(user=user, monday=date.fromisoformat(week))
    ]
    text = "\n".join(["Your reminders of this week:", "", *(lines or ["none"]), ""])
    rows = Email.objects.filter(pk=email.pk)
    return _send_once("digest", rows, user, subject=f"Your week from {week}", text=text)


def _send_once(kind: str, rows: QuerySet[Any], user: User, *, subject: str, text: str) -> bool:
    """Send the e-mail that a row stands for unless it was sent; return whether this call did.

    The row is claimed by one conditional UPDATE, which exactly one of several workers wins. One that dies between the
    mail server's answer and the last line sends it again after the claim has expired: twice is possible in that
    instant, never is not.
    """
    if user.email_verified_at is None and kind != "verification":
        return _skip(kind, "the address is not verified", user_id=user.pk)
    if not rows.filter(_free(), sent_at=None).update(claimed_at=timezone.now()):
        if rows.filter(sent_at=None).exists():
            raise DeliveryClaimedError
        return _skip(kind, "it was sent before, or cancelled", user_id=user.pk)
    try:
        send_mail(subject=subject, message=text, from_email=None, recipient_list=[user.email])
    except Exception:
        # Give it back, so that the retry need not wait for the claim to expire.
        rows.update(claimed_at=None)
        raise
    rows.update(sent_at=timezone.now())
    logger.info("email_sent", kind=kind, user_id=user.pk)
    return True


def _free() -> Q:
    return Q(claimed_at=None) | Q(claimed_at__lt=timezone.now() - CLAIM)


def _skip(kind: str, reason: str, **ids: int) -> bool:
    logger.warning("email_skipped", kind=kind, reason=reason, **ids)
    return False
