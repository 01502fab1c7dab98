"""Who guesses passwords is stopped; who owns the account is not."""

from datetime import timedelta

import pytest
from axes.models import AccessAttempt, AccessLog
from django.contrib.auth import get_user_model
from django.test import Client
from django.utils import timezone

from apps.users import services, tasks

PASSWORD = "difference engine no. 2"
ADMIN = "/admin/login/"

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _ada(user):
    user.is_staff = user.is_superuser = True
    user.save()


def sign_in(password=PASSWORD, *, address="192.0.2.1", email="ada@example.com", path="/api/session/", **headers):
    client = Client(headers={"X-Forwarded-For": f"10.0.0.1, {address}", **headers})
    if path == ADMIN:
        return client.post(path, {"username": email, "password": password})
    return client.post(path, {"email": email, "password": password}, content_type="application/json")


def guess(times, **where):
    return [sign_in(f"guess {number}", **where).status_code for number in range(times)]


def test_five_failures_close_an_account_to_who_guessed_even_with_the_right_password():
    assert guess(5) == [400, 400, 400, 400, 429]
    refused = sign_in()
    assert (refused.status_code, refused["Retry-After"]) == (429, "900")
    assert refused["Content-Type"] == "application/problem+json"
    assert refused.json()["detail"] == "Too many failed sign-ins. Try again in 15 minutes."
    # The owner, elsewhere.
    assert sign_in(address="192.0.2.2").status_code == 200
    AccessAttempt.objects.update(attempt_time=timezone.now() - timedelta(minutes=16))
    assert sign_in().status_code == 200


def test_the_admin_and_the_api_the_spelling_and_the_browser_are_counted_together():
    assert guess(2, path=ADMIN) == [200, 200]
    assert guess(2, email="ADA@Example.com", **{"User-Agent": "another"}) == [400, 400]
    assert guess(1, path=ADMIN) == [429]
    assert sign_in(path=ADMIN).status_code == 429


def test_a_network_of_ipv6_addresses_is_one_guesser():
    for number in range(5):
        guess(1, address=f"2001:db8:1:2::{number}")
    assert sign_in(address="2001:db8:1:2:ffff::1").status_code == 429
    assert sign_in(address="2001:db8:1:3::1").status_code == 200


def test_fifty_failures_from_anywhere_close_an_account_to_all_but_those_who_were_there_before():
    assert sign_in(address="192.0.2.200").status_code == 200
    for number in range(50):
        guess(1, address=f"192.0.2.{number}")
    assert sign_in(address="192.0.2.100").status_code == 429
    assert sign_in(address="192.0.2.200").status_code == 200, "who floods an account locks its owner out"
    assert sign_in(address="192.0.2.100").status_code == 429, "the owner's sign-in gives the guesser new guesses"


def test_somebody_who_remembers_begins_anew():
    for _ in range(3):
        assert guess(3) == [400, 400, 400]
        assert sign_in().status_code == 200


def test_a_failure_is_logged_with_account_and_address_and_without_what_was_typed(caplog):
    guess(5)
    sign_in("hunter2 hunter2", email="hunter2 hunter2", path=ADMIN)
    lines = [record.msg for record in caplog.records if isinstance(record.msg, dict)]
    failed = [line for line in lines if line["event"] == "sign_in_failed"]
    assert [(line["account"], line["address"]) for line in failed] == [("ada@example.com", "192.0.2.1")] * 5 + [
        ("(no e-mail)", "192.0.2.1")
    ]
    assert [line["account"] for line in lines if line["event"] == "sign_in_locked"] == ["ada@example.com"]
    assert "guess" not in caplog.text
    assert "hunter2" not in caplog.text
    stored = " ".join(str(row) for row in AccessAttempt.objects.values())
    assert "guess" not in stored
    assert "hunter2" not in stored


def test_who_signed_in_is_logged_by_number(caplog, user):
    sign_in()
    [line] = [
        record.msg for record in caplog.records if getattr(record, "msg", None) and "signed_in" in str(record.msg)
    ]
    assert (line["user_id"], line["address"]) == (user.pk, "192.0.2.1")


def test_sign_ins_are_forgotten_after_their_time(user):  # noqa: ARG001
    sign_in()
    guess(1)
    assert tasks.cleanup_sign_ins() == 0
    for model in (AccessLog, AccessAttempt):
        model.objects.update(attempt_time=timezone.now() - services.SIGN_INS_KEPT - timedelta(minutes=1))
    assert tasks.cleanup_sign_ins() == 2


def test_an_unknown_account_is_closed_as_a_known_one_is():
    get_user_model().objects.all().delete()
    assert guess(6) == [400, 400, 400, 400, 429, 429]
