"""The site, from outside."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from testinfra.host import Host

UNITS = ["drumline-web.service", "drumline-flower.service", "nginx.service"]


def test_the_site_says_that_it_is_ready(site: Any) -> None:
    answer = site.get("/readyz")
    assert answer.status == 200, answer.body
    assert {"database", "broker", "migrations"} <= set(str(json.loads(answer.body)).replace("'", " ").split())


def test_the_process_says_that_it_lives(site: Any) -> None:
    assert site.get("/livez").status == 200


@pytest.mark.parametrize(
    "path", ["/flower/", "/flower/workers", "/flower/tasks", "/flower/broker", "/flower/api/workers"]
)
def test_a_stranger_is_sent_to_the_login_instead_of_flower(site: Any, path: str) -> None:
    answer = site.get(path)
    assert answer.status == 302
    assert answer.headers["Location"] == f"/admin/login/?next={path}"
    assert "flower" not in answer.body.lower()


@pytest.mark.parametrize("path", ["/flower/metrics", "/flower/healthcheck", "/metrics", "/_drumline/staff"])
def test_what_answers_without_a_login_is_not_there(site: Any, path: str) -> None:
    assert site.get(path).status == 404


@pytest.mark.parametrize(
    "path",
    [
        "/flower//metrics",
        "/flower/./metrics",
        "/flower/x/../metrics",
        "/flower/%6detrics",
        "/FLOWER/metrics",
        "/flower/metrics;x",
    ],
)
def test_another_spelling_opens_no_back_door(site: Any, path: str) -> None:
    answer = site.get(path)
    assert answer.status in (302, 400, 404)
    assert "flower_" not in answer.body


def test_a_stranger_opens_no_websocket_to_flower(site: Any) -> None:
    answer = site.get(
        "/flower/update-workers",
        Connection="Upgrade",
        Upgrade="websocket",
        Sec_WebSocket_Version="13",
        Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25jZQ==",
    )
    assert answer.status in (302, 404)


@pytest.mark.parametrize("path", ["/admin/", "/ops/"])
def test_a_stranger_sees_no_page_of_the_staff(site: Any, path: str) -> None:
    assert site.get(path).status in (302, 404)


def test_an_account_gets_its_welcome_by_mail_from_the_worker_of_its_queue(
    host: Host, site: Any, worker_log: Callable[[str], str]
) -> None:
    email = f"newcomer-{uuid4().hex}@example.com"
    body = json.dumps({"email": email, "password": "a-Long-enough-1-of-them"})

    answer = site.post("/api/users/", body)

    assert answer.status == 201, answer.body
    mailbox = f"grep -rl 'To: {email}' /var/lib/drumline-mail-catcher"
    deadline = time.monotonic() + 30
    while host.run(mailbox).rc != 0:
        assert time.monotonic() < deadline, "no mail arrived"
    assert "notifications.send_welcome_email" in worker_log("high")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ('{"email": "not-an-address", "password": "a-Long-enough-1-of-them"}', 400),
        ('{"email": "weak@example.com", "password": "12345678"}', 400),
        ('{"email": ', 400),
        ('{"email": "' + "x" * 10_000_000 + '@example.com"}', 413),
    ],
    ids=["invalid e-mail", "weak password", "broken JSON", "10 MB"],
)
def test_bad_input_gets_a_reason_in_json_and_stores_nothing(site: Any, body: str, status: int) -> None:
    answer = site.post("/api/users/", body)

    assert answer.status == status, answer.body
    assert json.loads(answer.body)["status"] == status
