import io
from datetime import timedelta

import pytest
from django.contrib.auth import authenticate, get_user_model
from django.contrib.sessions.models import Session
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.db import DatabaseError, IntegrityError, transaction
from django.utils import timezone

from apps.users import services, tasks
from drumline.models import DurableTask

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


def test_a_person_signs_in_however_the_e_mail_is_typed(user, rf):
    assert authenticate(rf.post("/"), username="ADA@example.com", password="difference engine no. 2") == user


def test_expired_sessions_are_deleted_in_batches_and_others_stay():
    now = timezone.now()
    for number in range(5):
        Session.objects.create(session_key=f"old{number}", expire_date=now - timedelta(days=1))
    Session.objects.create(session_key="new", expire_date=now + timedelta(days=1))
    assert services.sessions_delete_expired(batch=2, batches=2) == 4
    assert tasks.cleanup_expired_sessions() == 1
    assert list(Session.objects.values_list("session_key", flat=True)) == ["new"]


@pytest.fixture
def imported(monkeypatch, capsys):
    """Import a text, and return what the command says."""

    def run(text):
        data = text if isinstance(text, bytes) else text.encode()
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))
        call_command("import_users")
        return capsys.readouterr().out

    return run


def test_people_are_imported_with_one_welcome_e_mail_each(imported, user, settings):
    settings.CRM_URL = "http://crm.example/"
    said = imported(
        'Grace@Example.com,"Hopper, Grace"\n\nbob@example.com\nBOB@example.com,Bob again\nada@example.com,Not Ada\n'
    )
    assert said.startswith("2 accounts created")
    grace, bob = User.objects.exclude(pk=user.pk).order_by("-email")
    assert (grace.email, grace.full_name, bob.full_name) == ("grace@example.com", "Hopper, Grace", "")
    assert not grace.has_usable_password()
    user.refresh_from_db()
    assert user.full_name == "Ada"
    for name in ("notifications.send_welcome_email", "integrations.sync_to_crm"):
        assert DurableTask.objects.filter(name=name).count() == 2
    assert imported("bob@example.com\n").startswith("0 accounts created")
    assert DurableTask.objects.count() == 4


@pytest.mark.usefixtures("no_ledger")
def test_nobody_is_imported_whose_welcome_e_mail_cannot_be_written():
    with pytest.raises(DatabaseError):
        services.users_import(people=[(1, "bob@example.com", "Bob")])
    assert not User.objects.exists()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("ada@example.com\nnobody\n", "line 2: Enter a valid email address"),
        ("ada@example.com\n" * 3 + f"bob@example.com,{'x' * 151}\n", "line 4: Ensure this value has at most 150"),
        ("ada@example.com\n" + "nobody\n" * 30, "and 10 more"),
        ("a@example.com\nb@example.com,B,C\n", "line 2 holds more than an e-mail and a name"),
        ('ada@example.com\n"b@example.com\n', "unexpected end of data"),
        (b"ada@example.com,\xff\n", "can't decode byte 0xff"),
        ("ada@example.com\n" + "x" * 200_000, "field larger than field limit"),
    ],
)
def test_a_file_with_a_fault_imports_nothing_and_is_answered_with_the_line(imported, text, reason):
    with pytest.raises(CommandError) as refused:
        imported(text)
    assert str(refused.value).startswith("Nothing was imported:")
    assert reason in str(refused.value)
    assert not User.objects.exists()
    assert not DurableTask.objects.exists()
