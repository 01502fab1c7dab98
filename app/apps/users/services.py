"""Changing users."""

from django.contrib.auth.password_validation import validate_password
from django.contrib.sessions.models import Session
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
            crm.contact_sync_request(user_id=user.pk)
    except IntegrityError:
        if User.objects.filter(email=user.email).exists():
            raise EmailTakenError from None
        raise
    return user


def sessions_delete_expired(*, batch: int = 1000, batches: int = 100) -> int:
    """Delete expired sessions in batches short enough that no sign-in waits; the rest is tomorrow's."""
    deleted = 0
    for _ in range(batches):
        keys = list(Session.objects.filter(expire_date__lt=timezone.now()).values_list("pk", flat=True)[:batch])
        if not keys:
            break
        deleted += Session.objects.filter(pk__in=keys).delete()[0]
    return deleted
