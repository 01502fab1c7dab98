"""Changing users."""

from collections.abc import Iterable

from django.contrib.auth.password_validation import validate_password
from django.contrib.sessions.models import Session
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils import timezone

from apps.crm import services as crm
from apps.notifications import services as notifications
from apps.users.models import User, canonical_email


class EmailTakenError(Exception):
    """Another account has this e-mail, in whatever spelling."""


def user_create(*, email: str, password: str, full_name: str = "") -> User:
    """Create an account and, once it is committed, have its welcome e-mail sent and the CRM told.

    Raises Django's ValidationError for a weak password and EmailTakenError for a taken e-mail; two requests at the
    same moment are told apart by the unique index, not by looking first.
    """
    user = User(email=canonical_email(email), full_name=full_name)
    validate_password(password, user)
    user.set_password(password)
    try:
        with transaction.atomic():
            user.save(force_insert=True)
            notifications.welcome_emails_request(user_ids=[user.pk])
            crm.contacts_sync_request(user_ids=[user.pk])
    except IntegrityError:
        if User.objects.filter(email=user.email).exists():
            raise EmailTakenError from None
        raise
    return user


class ImportRefusedError(Exception):
    """Nothing was imported; `reasons` says why, each with the number of its line."""

    def __init__(self, reasons: list[str]) -> None:
        self.reasons = reasons
        super().__init__("\n".join(reasons))


@transaction.atomic
def users_import(*, people: Iterable[tuple[int, str, str]]) -> int:
    """Create accounts of (line, e-mail, full name) in bulk, all or none, with their welcome e-mails; return how many.

    An account that exists stays as it is, so that an import may be repeated. The new ones have no password.
    """
    users: dict[str, User] = {}
    reasons = []
    for line, email, full_name in people:
        user = User(email=canonical_email(email), full_name=full_name)
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


def sessions_delete_expired(*, batch: int = 1000, batches: int = 100) -> int:
    """Delete expired sessions in batches short enough that no sign-in waits; the rest is tomorrow's."""
    deleted = 0
    for _ in range(batches):
        keys = list(Session.objects.filter(expire_date__lt=timezone.now()).values_list("pk", flat=True)[:batch])
        if not keys:
            break
        deleted += Session.objects.filter(pk__in=keys).delete()[0]
    return deleted
