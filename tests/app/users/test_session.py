import json

import pytest
from django.test import Client

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("user")]

ADA = {"email": "ada@example.com", "password": "difference engine no. 2"}


@pytest.fixture
def browser():
    return Client(enforce_csrf_checks=True, headers={"Referer": "https://testserver/"})


def sign_in(browser, **changes):
    return browser.post("/api/session/", json.dumps(ADA | changes), content_type="application/json", secure=True)


def test_somebody_signs_in_is_known_and_signs_out(browser, user):
    signed_in = sign_in(browser, email="Ada@Example.com")
    assert signed_in.status_code == 200
    assert signed_in.json()["user"]["email"] == user.email
    assert "password" not in signed_in.json()["user"]

    known = browser.get("/api/session/", secure=True)
    assert known.json()["user"]["id"] == user.pk
    assert browser.delete("/api/session/", secure=True).status_code == 403, "another site could sign people out"
    token = known.json()["csrf_token"]
    assert browser.delete("/api/session/", secure=True, headers={"X-CSRFToken": token}).status_code == 204
    assert browser.get("/api/session/", secure=True).status_code == 404


@pytest.mark.parametrize(
    "changes", [{"password": "difference engine no. 1"}, {"email": "bob@example.com"}], ids=["password", "e-mail"]
)
def test_a_wrong_password_and_an_unknown_account_get_the_same_answer(browser, changes):
    refused = sign_in(browser, **changes)
    assert refused.status_code == 400
    assert refused["Content-Type"] == "application/problem+json"
    assert refused.json()["errors"] == [
        {"field": "password", "code": "wrong", "message": "The e-mail address or the password is wrong."}
    ]
    assert browser.get("/api/session/", secure=True).status_code == 404


def test_a_closed_account_does_not_sign_in(browser, user):
    user.is_active = False
    user.save()
    assert sign_in(browser).status_code == 400


def test_a_worthless_cookie_does_not_keep_anybody_from_signing_in(browser):
    sign_in(browser)
    assert sign_in(browser).status_code == 200


def test_a_form_of_another_site_signs_nobody_in(browser):
    assert browser.post("/api/session/", ADA, secure=True).status_code == 415
