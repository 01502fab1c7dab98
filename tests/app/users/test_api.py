import json
from unittest import mock

import pytest
from django.contrib.auth import get_user_model
from django.test import Client

from apps.notifications.models import Email
from drumline.models import DurableTask

User = get_user_model()
ACCOUNT = {"email": "Ada@Example.com", "password": "difference engine no. 2", "full_name": "Ada"}

pytestmark = pytest.mark.django_db


@pytest.fixture
def post(client):
    def post(body, **extra):
        data = body if isinstance(body, (str, bytes)) else json.dumps(body)
        return client.post("/api/users/", data, content_type=extra.pop("content_type", "application/json"), **extra)

    return post


def refused(answer, status, field=None):
    """Assert that nothing was stored, and return the problem document's reasons."""
    assert answer.status_code == status, answer.content
    assert answer["Content-Type"] == "application/problem+json"
    problem = json.loads(answer.content)
    assert problem["status"] == status
    assert problem["title"]
    assert problem["detail"]
    assert not User.objects.filter(email=ACCOUNT["email"].lower()).exists()
    reasons = [reason for reason in problem.get("errors", []) if reason["field"] == field]
    assert reasons or field is None, problem
    return reasons


def test_a_good_request_creates_an_account_without_showing_its_password(post):
    answer = post(ACCOUNT)
    assert answer.status_code == 201
    assert set(answer.json()) == {"id", "email", "full_name", "created_at"}
    user = User.objects.get()
    assert user.email == "ada@example.com"
    assert user.check_password(ACCOUNT["password"])
    assert not user.is_staff
    assert user.email_verified_at is None
    assert Email.objects.filter(user=user, kind="verification", sent_at=None).exists()


def test_the_e_mail_that_asks_to_confirm_is_part_of_the_accounts_transaction_and_published_after_it(
    post, django_capture_on_commit_callbacks
):
    with mock.patch("drumline.sending.enqueue.publish") as publish:
        with django_capture_on_commit_callbacks(execute=True):
            post(ACCOUNT)
            assert DurableTask.objects.filter(name="notifications.send_verification_email").count() == 1
            publish.assert_not_called()
        publish.assert_called_once()


@pytest.mark.parametrize("email", ["ada@example.com", "ADA@EXAMPLE.COM"])
def test_a_taken_e_mail_is_a_conflict_in_every_spelling(post, user, email):
    answer = post({**ACCOUNT, "email": email})
    assert answer.status_code == 409
    assert answer.json()["errors"] == [
        {"field": "email", "code": "taken", "message": "An account with this e-mail exists."}
    ]
    assert User.objects.get() == user


@pytest.mark.parametrize(
    "email",
    [
        "",
        "ada",
        "ada@",
        "@example.com",
        "ada@example.com\nBcc: x@example.com",
        "a\x00@example.com",
        "a" * 250 + "@x.example",
    ],
)
def test_an_invalid_e_mail_is_named(post, email):
    assert refused(post({**ACCOUNT, "email": email}), 400, "email")


@pytest.mark.parametrize("password", ["", "short", "password1234", "12345678901234", "ada@example.com", "x" * 129])
def test_a_weak_password_is_named(post, password):
    assert refused(post({**ACCOUNT, "password": password}), 400, "password")


def test_every_reason_against_a_password_is_given(post):
    codes = {reason["code"] for reason in refused(post({**ACCOUNT, "password": "1234567"}), 400, "password")}
    assert codes == {"password_too_short", "password_too_common", "password_entirely_numeric"}


@pytest.mark.parametrize("missing", ["email", "password"])
def test_a_missing_field_is_named(post, missing):
    body = {key: value for key, value in ACCOUNT.items() if key != missing}
    assert refused(post(body), 400, missing)


@pytest.mark.parametrize(
    "body",
    ["{", "", "[]", "null", '"text"', "[" * 100_000, b"\xff\xfe", '{"email": NaN}', '{"email": "\\ud800@x.example"}'],
    ids=["cut off", "empty", "a list", "null", "a text", "deep", "not UTF-8", "NaN", "half a character"],
)
def test_a_broken_body_is_refused(post, body):
    refused(post(body), 400)


def test_a_body_above_a_megabyte_is_refused(post):
    refused(post({**ACCOUNT, "full_name": "x" * 1_000_001}), 413)


def test_another_content_type_is_refused(post):
    refused(post("email=x", content_type="application/x-www-form-urlencoded"), 415)


@pytest.mark.parametrize("method", ["get", "put", "patch", "delete"])
def test_another_method_is_refused(client, method):
    refused(getattr(client, method)("/api/users/"), 405)


def test_too_many_requests_are_refused(post, monkeypatch):
    monkeypatch.setattr("rest_framework.throttling.ScopedRateThrottle.THROTTLE_RATES", {"users.create": "2/min"})
    for _ in range(2):
        post({})
    answer = post(ACCOUNT)
    refused(answer, 429)
    assert int(answer["Retry-After"]) > 0


@pytest.mark.parametrize("path", ["/api/", "/api/nothing", "/api/nothing/", "/api/users", "/api/users/7/"])
def test_an_unknown_path_is_json_for_every_method(client, path):
    refused(client.get(path), 404)
    refused(client.post(path, {}), 404)


def test_an_unexpected_error_is_json_without_its_text(settings):
    settings.DEBUG = False
    with mock.patch("apps.users.services.user_create", side_effect=RuntimeError("the secret plan")):
        answer = Client(raise_request_exception=False).post("/api/users/", ACCOUNT, content_type="application/json")
    refused(answer, 500)
    assert b"secret plan" not in answer.content


def test_a_foreign_host_is_refused_as_json(client):
    refused(client.get("/api/docs/", headers={"Host": "evil.example"}), 400)


def test_nothing_of_the_password_is_logged(post, caplog):
    post(ACCOUNT)
    post({**ACCOUNT, "email": "x"})
    assert ACCOUNT["password"] not in caplog.text


def test_the_schema_describes_the_endpoint_and_its_problems(client):
    answer = client.get("/api/schema/", headers={"Accept": "application/vnd.oai.openapi+json"})
    responses = answer.json()["paths"]["/api/users/"]["post"]["responses"]
    assert {"201", "400", "409", "413", "415", "429"} <= set(responses)


@pytest.mark.parametrize("path", ["/api/docs", "/api/docs/"])
def test_the_documentation_page_needs_nothing_from_the_internet(client, path):
    answer = client.get(path)
    assert answer.status_code == 200
    assert b"//cdn" not in answer.content
    assert b"/static/drf_spectacular_sidecar/" in answer.content
