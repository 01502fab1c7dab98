from datetime import timedelta

import pytest
from django.contrib.auth import authenticate, get_user_model
from django.contrib.sessions.models import Session
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils import timezone

from apps.users import services, tasks

User = get_user_model()
pytestmark = pytest.mark.django_db


def test_an_account_is_stored_under_one_spelling_of_its_e_mail():
    user = services.user_create(email=" Ada@Example.COM ", password="difference engine no. 2")
    assert user.email == "ada@example.com"


def test_a_taken_e_mail_leaves_the_callers_transaction_usable(user):  # noqa: ARG001  it has the e-mail
    with transaction.atomic():
        with pytest.raises(services.EmailTakenError):
            services.user_create(email="ADA@example.com", password="difference engine no. 2")
        assert User.objects.count() == 1


def test_a_weak_password_stores_nothing():
    with pytest.raises(ValidationError):
        services.user_create(email="ada@example.com", password="weak")
    assert not User.objects.exists()


def test_the_database_refuses_another_spelling(user):
    with pytest.raises(IntegrityError), transaction.atomic():
        User.objects.filter(pk=user.pk).update(email="Ada@example.com")


def test_a_person_signs_in_however_the_e_mail_is_typed(user):
    assert authenticate(username="ADA@example.com", password="difference engine no. 2") == user


def test_expired_sessions_are_deleted_in_batches_and_others_stay():
    now = timezone.now()
    for number in range(5):
        Session.objects.create(session_key=f"old{number}", expire_date=now - timedelta(days=1))
    Session.objects.create(session_key="new", expire_date=now + timedelta(days=1))
    assert services.sessions_delete_expired(batch=2, batches=2) == 4
    assert tasks.cleanup_expired_sessions() == 1
    assert list(Session.objects.values_list("session_key", flat=True)) == ["new"]
