"""What staff may do with Flower: look, and act on workers only where both the host and a permission say so."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from testinfra.host import Host

UNITS = ["drumline-flower.service", "drumline-web@*.service", "nginx.service"]
SIGN_IN = """
from importlib import import_module
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, get_user_model
user, _ = get_user_model().objects.update_or_create(email="{email}", defaults={fields})
session = import_module(settings.SESSION_ENGINE).SessionStore()
session.update({{
    SESSION_KEY: str(user.pk),
    BACKEND_SESSION_KEY: settings.AUTHENTICATION_BACKENDS[-1],
    HASH_SESSION_KEY: user.get_session_auth_hash(),
}})
session.create()
print(settings.SESSION_COOKIE_NAME + "=" + session.session_key)
"""
REMOVE = "from django.contrib.auth import get_user_model; get_user_model().objects.filter(email='{email}').delete()"
AT_THE_SOCKET = """
import http.client, socket
connection = http.client.HTTPConnection("flower", timeout=20)
connection.sock = socket.socket(socket.AF_UNIX)
connection.sock.connect("/run/drumline-flower/flower.sock")
connection.request("POST", "{path}")
print(connection.getresponse().status)
"""
ACTS = [
    "/flower/api/worker/queue/cancel-consumer/{worker}?queue=high",
    "/flower/api/worker/queue/add-consumer/{worker}?queue=low",
    "/flower/api/worker/shutdown/{worker}",
    "/flower/api/worker/pool/shrink/{worker}?n=1",
    "/flower/api/worker/pool/grow/{worker}?n=1",
    "/flower/api/worker/pool/restart/{worker}",
    "/flower/api/worker/pool/autoscale/{worker}?min=1&max=1",
    "/flower/api/task/revoke/00000000-0000-0000-0000-000000000000?terminate=true",
    "/flower/api/task/rate-limit/drumline.ping?ratelimit=1/h",
    "/flower/api/task/timeout/drumline.ping?soft=1",
    "/flower/api/task/async-apply/drumline.ping",
    "/flower/api/task/send-task/drumline.ping",
]


def manage(host: Host, code: str) -> str:
    """What a piece of Python prints in the application's own environment."""
    printed: str = host.check_output("drumline-manage shell --verbosity=0 --command %s", code)
    return printed.strip().splitlines()[-1] if printed.strip() else ""


def account(host: Host, email: str, **fields: Any) -> Any:
    cookie = manage(host, SIGN_IN.format(email=email, fields=fields))
    yield {"Cookie": cookie}
    manage(host, REMOVE.format(email=email))


@pytest.fixture(scope="module")
def staff(host: Host) -> Any:
    """The session of somebody who may enter the admin and has no permission at all."""
    yield from account(host, "no-permission@drumline.test", is_staff=True)


@pytest.fixture(scope="module")
def superuser(host: Host) -> Any:
    yield from account(host, "every-permission@drumline.test", is_staff=True, is_superuser=True)


@pytest.fixture(scope="module")
def worker(members: Callable[..., list[Host]]) -> str:
    return f"high-1@{members('worker')[0].backend.host.name}"


def origin(site: Any) -> str:
    return f"https://{site.name}"


@pytest.mark.parametrize("path", ["/flower/", "/flower/workers", "/flower/tasks", "/flower/broker"])
def test_staff_without_a_permission_see_flower(site: Any, staff: dict[str, str], path: str) -> None:
    assert site.request("GET", path, None, "https", staff).status == 200


def test_staff_without_a_permission_see_a_worker_and_the_tasks(site: Any, staff: dict[str, str], worker: str) -> None:
    assert site.request("GET", f"/flower/worker/{worker}", None, "https", staff).status == 200
    form = staff | {"Content-Type": "application/x-www-form-urlencoded", "Origin": origin(site)}
    query = "draw=1&start=0&length=10&search[value]=&order[0][column]=0&order[0][dir]=asc&columns[0][data]=name"
    tasks = site.request("POST", "/flower/tasks/datatable", query, "https", form)
    assert tasks.status == 200, tasks.body
    assert "data" in json.loads(tasks.body)


@pytest.mark.parametrize("path", ACTS, ids=lambda path: path.split("?")[0].removeprefix("/flower/api/"))
def test_flower_acts_for_nobody_by_default(
    site: Any, staff: dict[str, str], superuser: dict[str, str], worker: str, path: str
) -> None:
    for session in (staff, superuser):
        for page in (origin(site), "https://sibling.drumline.test"):
            answer = site.request("POST", path.format(worker=worker), None, "https", session | {"Origin": page})
            assert answer.status == 403, answer.body


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS"])
def test_no_other_method_reaches_flower(site: Any, superuser: dict[str, str], method: str) -> None:
    assert site.request(method, "/flower/api/workers", None, "https", superuser).status == 404


def test_flower_itself_refuses_to_act(host: Host, worker: str) -> None:
    for path in ACTS:
        code = AT_THE_SOCKET.format(path=path.format(worker=worker))
        assert host.check_output("python3 -c %s", code) == "403", path


def test_no_page_of_another_site_reads_what_flower_shows(site: Any, staff: dict[str, str]) -> None:
    answer = site.request("GET", "/flower/api/workers", None, "https", staff | {"Origin": "https://elsewhere.test"})
    assert answer.status == 200
    assert not [name for name in answer.headers if name.lower().startswith("access-control-")]
