"""Staff with a device for one-time codes, and all staff where the site says so, signs in with one."""

import re

import pytest
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command
from django.test import Client
from django_otp.oath import totp
from django_otp.plugins.otp_static.models import StaticDevice
from django_otp.plugins.otp_totp.models import TOTPDevice

from tests.app.shop import an_order

PASSWORD = "difference engine no. 2"
STAFF_ONLY = ["/admin/", "/admin/users/user/", "/ops/auth"]

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("no_broker")]


@pytest.fixture
def admin(db):  # noqa: ARG001  it opens the database
    return get_user_model().objects.create_superuser("root@example.com", PASSWORD)


@pytest.fixture
def browser():
    return Client()


def device(admin):
    return TOTPDevice.objects.create(user=admin, name="authenticator")


def code(device):
    return f"{totp(device.bin_key):06}"


def sign_in(browser, **fields):
    return browser.post("/admin/login/", {"username": "root@example.com", "password": PASSWORD, **fields})


def entered(browser):
    """The statuses of the pages that only staff sees."""
    return [browser.get(path).status_code for path in STAFF_ONLY]


INSIDE, OUTSIDE = [200, 200, 204], [302, 302, 401]


def test_where_it_is_optional_a_password_is_enough_without_a_device(browser, admin):  # noqa: ARG001
    assert entered(browser) == OUTSIDE
    assert sign_in(browser).status_code == 302
    assert entered(browser) == INSIDE


def test_who_has_a_device_gives_its_code(browser, admin):
    authenticator = device(admin)
    assert "Please enter your OTP token" in sign_in(browser).content.decode()
    assert entered(browser) == OUTSIDE
    assert sign_in(browser, otp_token=code(authenticator)).status_code == 302
    assert entered(browser) == INSIDE


def test_a_session_with_a_password_alone_opens_nothing_of_the_staffs(browser, admin):
    order = an_order("paid")
    device(admin)
    answer = browser.post(
        "/api/session/", {"email": "root@example.com", "password": PASSWORD}, content_type="application/json"
    )
    assert answer.status_code == 200
    assert entered(browser) == OUTSIDE
    assert browser.post(f"/api/orders/{order.pk}/ship/").status_code == 403


def test_where_it_is_required_staff_without_a_device_gets_nowhere(browser, admin, settings):
    assert sign_in(browser).status_code == 302
    settings.ADMIN_SECOND_FACTOR = "required"
    assert entered(browser) == OUTSIDE, "a session from before"
    assert "A second factor is required." in sign_in(Client()).content.decode()
    authenticator = device(admin)
    assert sign_in(browser, otp_token=code(authenticator)).status_code == 302
    assert entered(browser) == INSIDE


def test_another_persons_device_and_a_wrong_code_let_nobody_in(browser, admin):
    device(admin)
    eves = device(get_user_model().objects.create_superuser("eve@example.com", PASSWORD))
    assert sign_in(browser, otp_token=code(eves), otp_device=eves.persistent_id).status_code == 200
    assert sign_in(browser, otp_token="000000").status_code == 200
    assert entered(browser) == OUTSIDE


def test_wrong_codes_are_failed_sign_ins(browser, admin, caplog):
    device(admin)
    for _ in range(5):
        answer = sign_in(browser, otp_token="000000")
        # The device itself makes a guesser wait.
        TOTPDevice.objects.update(throttling_failure_timestamp=None, throttling_failure_count=0)
    assert answer.status_code == 429
    assert "sign_in_failed" in caplog.text


def test_a_code_is_good_once(browser, admin):
    authenticator = device(admin)
    given = code(authenticator)
    assert sign_in(browser, otp_token=given).status_code == 302
    assert sign_in(Client(), otp_token=given).status_code == 200


def test_the_command_gives_a_device_and_recovery_codes_that_work_once(browser, admin, capsys):
    call_command("second_factor", "Root@example.com")
    printed = capsys.readouterr().out
    assert "otpauth://totp/Drumline" in printed
    [recovery, *others] = re.findall(r"^[a-z2-7]{8}$", printed, re.MULTILINE)
    assert len(others) == 9
    chosen = StaticDevice.objects.get(user=admin).persistent_id
    assert sign_in(browser, otp_device=chosen, otp_token=recovery).status_code == 302
    assert entered(browser) == INSIDE
    assert sign_in(Client(), otp_device=chosen, otp_token=recovery).status_code == 200

    with pytest.raises(CommandError, match="Use --reset to replace it"):
        call_command("second_factor", "root@example.com")
    before = TOTPDevice.objects.get().key
    call_command("second_factor", "root@example.com", "--reset")
    assert TOTPDevice.objects.get().key != before
    with pytest.raises(CommandError, match="There is no account"):
        call_command("second_factor", "nobody@example.com")
