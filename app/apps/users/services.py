"""Changing users."""

from collections.abc import Iterable
from contextlib import suppress
from datetime import timedelta

from axes.models import AccessAttempt, AccessLog
from django.contrib.auth.password_validation import validate_password
from django.contrib.sessions.models import Session
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import ProtectedError, Q
from django.utils import timezone

from apps.crm import services as crm
from apps.notifications import services as notifications
from apps.users.models import User, canonical_email
from apps.users.verification import token_user

# Accounts that one mailbox may be used for in a day; ada+1@example.com and ada+2@example.com are one mailbox.
SIGN_UPS = 3
# After so long an account whose address was never proved is deleted, and the address is free again.
UNVERIFIED_KEPT = timedelta(days=7)
# For so long a client counts as one that an account's owner signs in from.
SIGN_INS_KEPT = timedelta(days=90)


class EmailTakenError(Exception):
    """Another account has this e-mail, in whatever spelling."""


class TooManySignUpsError(Exception):
    """The mailbox was used for as many accounts today as it may be."""


@transaction.atomic
def user_create(*, email: str, password: str, full_name: str = "") -> User:
    """Create an account and, once it is committed, have the e-mail sent that proves its address.

    Raises Django's ValidationError for a weak password, EmailTakenError for a taken e-mail, and TooManySignUpsError for
    a mailbox that was used too often.
    """
    user = User(email=canonical_email(email), full_name=full_name)
    validate_password(password, user)
    user.set_password(password)
    if _sign_ups_today(user.email) >= SIGN_UPS:
        raise TooManySignUpsError
    # ON CONFLICT DO NOTHING: of two requests at the same moment the unique index chooses one, and no error is raised whose
    # message would put the e-mail and the password's hash into the database server's log.
    User.objects.bulk_create([user], ignore_conflicts=True)
    stored = User.objects.get(email=user.email)
    # The hash is salted: no other row has it.
    if stored.password != user.password:
        raise EmailTakenError
    notifications.verification_email_request(user_id=stored.pk)
    return stored


def _sign_ups_today(email: str) -> int:
    local, _, domain = email.rpartition("@")
    mailbox = local.partition("+")[0]
    same = Q(email=f"{mailbox}@{domain}") | Q(email__startswith=f"{mailbox}+", email__endswith=f"@{domain}")
    today = User.objects.filter(same, created_at__gt=timezone.now() - timedelta(days=1), email_verified_at=None)
    return today.count()


def verification_repeat(*, user: User) -> bool:
    """Have the e-mail sent again that proves the address, if it was not today; return whether it is sent."""
    return user.email_verified_at is None and notifications.verification_email_request(user_id=user.pk)


@transaction.atomic
def email_verify(*, token: str) -> User:
    """Take an address for proved and, the first time, have the account welcomed and the CRM told.

    Raises TokenRefusedError for a token that proves nothing.
    """
    user = token_user(token)
    unverified = User.objects.filter(pk=user.pk, email=user.email, email_verified_at=None)
    if unverified.update(email_verified_at=timezone.now()):
        notifications.welcome_emails_request(user_ids=[user.pk])
        crm.contacts_sync_request(user_ids=[user.pk])
    return user


def unverified_users_delete() -> int:
    """Delete accounts whose address was not proved in time; return how many. One that has orders or imports stays."""
    deleted = 0
    for user in User.objects.filter(email_verified_at=None, created_at__lt=timezone.now() - UNVERIFIED_KEPT).iterator():
        with suppress(ProtectedError):
            user.delete()
            deleted += 1
    return deleted


class ImportRefusedError(Exception):
    """Nothing was imported; `reasons` says why, each with the number of its line."""

    def __init__(self, reasons: list[str]) -> None:
        self.reasons = reasons
        super().__init__("\n".join(reasons))


@transaction.atomic
def users_import(*, people: Iterable[tuple[int, str, str]]) -> int:
    """Create accounts of (line, e-mail, full name) in bulk, all or none, with their welcome e-mails; return how many.

    An account that exists stays as it is, so that an import may be repeated. The new ones have no password, and the
    operator vouches for their addresses.
    """
    users: dict[str, User] = {}
    reasons = []
    for line, email, full_name in people:
        user = User(email=canonical_email(email), full_name=full_name, email_verified_at=timezone.now())
        user.set_unusable_password()
        try:
            user.clean_fields()
        except ValidationError as error:
            reasons.append(f"line {line}: {' '.join(error.messages)}")
        users.setdefault(user.email, user)
    if reasons:
        raise ImportRefusedError(reasons)
    there = set(User.objects.filter(email__in=users).values_list("email", flat=True))
    created = User.objects.bulk_create([user for email, user in users.items() if email not in there], batch_size=1000)
    ids = [user.pk for user in created]
    notifications.welcome_emails_request(user_ids=ids)
    crm.contacts_sync_request(user_ids=ids)
    return len(ids)


def sign_ins_delete_old() -> int:
    """Delete who signed in when and from where, and failures, after their time; return how many."""
    forgotten = timezone.now() - SIGN_INS_KEPT
    models = (AccessLog, AccessAttempt)
    return sum(model.objects.filter(attempt_time__lt=forgotten).delete()[0] for model in models)


def sessions_delete_expired(*, batch: int = 1000, batches: int = 100) -> int:
    """Delete expired sessions in batches short enough that no sign-in waits; the rest is tomorrow's."""
    deleted = 0
    for _ in range(batches):
        keys = list(Session.objects.filter(expire_date__lt=timezone.now()).values_list("pk", flat=True)[:batch])
        if not keys:
            break
        deleted += Session.objects.filter(pk__in=keys).delete()[0]
    return deleted
