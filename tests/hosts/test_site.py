"""The site, from outside."""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote
from uuid import uuid4

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from testinfra.host import Host

UNITS = ["drumline-web@*.service", "drumline-flower.service", "nginx.service"]


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


def test_an_account_confirms_its_address_and_is_welcomed_by_mail_from_the_worker_of_its_queue(
    members: Callable[..., list[Host]], site: Any, worker_log: Callable[[str], str]
) -> None:
    email = f"newcomer-{uuid4().hex}@example.com"

    answer = site.post("/api/users/", json.dumps({"email": email, "password": "a-Long-enough-1-of-them"}))

    assert answer.status == 201, answer.body
    [asked] = mails_to(members("mail_catcher"), email, 1)
    link = re.search(r"https://\S+(/verify-email/\?token=(\S+))", asked)
    assert link, asked
    assert site.get(link[1]).status == 200
    verified = site.post("/api/users/verify/", json.dumps({"token": unquote(link[2])}))
    assert verified.status == 200, verified.body
    assert any("Subject: Welcome" in mail for mail in mails_to(members("mail_catcher"), email, 2))
    assert "notifications.send_welcome_email" in worker_log("high")


def mails_to(hosts: list[Host], email: str, number: int) -> list[str]:
    """So many e-mails to an address, once they have arrived at one of the mail catchers."""
    deadline = time.monotonic() + 30
    find = f"grep -rl 'To: {email}' /var/lib/drumline-mail-catcher"
    while len(files := [(host, file) for host in hosts for file in host.run(find).stdout.split()]) < number:
        assert time.monotonic() < deadline, f"{len(files)} e-mails of {number} arrived"
    # Long lines are folded for the way.
    return [str(host.check_output(f"cat {file}")).replace("=\n", "").replace("=3D", "=") for host, file in files]


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
