"""Every password of the database and the broker is changed while people come and tasks run: nobody notices.

    ROTATION=all pytest tests/faults/test_rotation.py --hosts=ssh://drumline-local --ssh-config=build/ssh/config --sudo

Without ROTATION=all nothing runs, since the playbook runs twice over the whole site.
"""

from __future__ import annotations

import concurrent.futures
import json
import os
import secrets
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest

from tests.support import paths
from tests.support.on_host import inventory_of, last_line, run_site

if TYPE_CHECKING:
    from collections.abc import Iterator

    from testinfra.host import Host

ANSIBLE = Path(os.environ.get("ROTATION_ANSIBLE", paths.ANSIBLE))

pytestmark = pytest.mark.skipif(
    os.environ.get("ROTATION") != "all", reason="it takes three minutes; ROTATION=all runs it"
)

NAMES = ("postgresql_password", "redis_app_password", "redis_flower_password")
DONE_SECONDS = 180

# Twenty visitors a second, each at its time whatever became of those before, until the file is there. Most have a session,
# which is read from the database; every fifth asks /readyz, which logs in to the database and to the broker each time.
# The certificate is checked elsewhere.
VISIT = """
import concurrent.futures, http.client, json, os, ssl, sys, time
def visit(path):
    at = time.strftime("%H:%M:%S ") + path + " "
    connection = http.client.HTTPSConnection("127.0.0.1", context=ssl._create_unverified_context(), timeout=60)
    try:
        connection.request("GET", path, headers={"Cookie": sys.argv[2]})
        answer = connection.getresponse()
        return answer.status, at + answer.read().decode()[:400]
    except OSError as error:
        return type(error).__name__, at
began, visits = time.monotonic(), []
with concurrent.futures.ThreadPoolExecutor(400) as pool:
    while not os.path.exists(sys.argv[1]) and len(visits) < 20 * 600:
        visits.append(pool.submit(visit, "/admin/login/" if len(visits) % 5 else "/readyz"))
        time.sleep(max(0, began + len(visits) / 20 - time.monotonic()))
answers = [visit.result() for visit in visits]
print(json.dumps({"all": len(answers), "failed": [answer for answer in answers if answer[0] not in (200, 302)]}))
"""
SIGN_IN = """
from django.contrib.auth import get_user_model
from django.test import Client
client = Client()
client.force_login(get_user_model().objects.get(email="admin@drumline.test"))
print(client.cookies.output(attrs=[], header="", sep=";").strip())
"""
STOP = "/run/visits-end"

SEND = """
from drumline.tasks import ping
print(*[ping.apply_async(args=[2], queue=queue).id for queue in ("high", "default", "low") for _ in range(2)])
"""
STATES = """
import json, sys
from django_celery_results.models import TaskResult
rows = TaskResult.objects.filter(task_id__in=sys.stdin.read().split())
print(json.dumps(list(rows.values_list("status", flat=True))))
"""
LOGINS = "SELECT rolname FROM pg_roles WHERE rolcanlogin AND rolname LIKE 'drumline%'"


def site(inventory: Path) -> str:
    ran = run_site(inventory, ansible=ANSIBLE)
    assert ran.returncode == 0, (ran.stdout + ran.stderr)[-6000:]
    return ran.stdout


def database(host: Host, login: str, password: str) -> str:
    ran = host.run(
        f"PGPASSWORD='{password}' psql --no-psqlrc -h 127.0.0.1 -U '{login}' -Atc 'SELECT current_user' drumline"
    )
    return str(ran.stdout + ran.stderr).strip()


def broker(host: Host, user: str, password: str) -> str:
    ran = host.run(f"REDISCLI_AUTH='{password}' redis-cli --user {user} ping")
    return str(ran.stdout + ran.stderr).strip()


def login(host: Host) -> str:
    """The role that the application logs in as."""
    shown = host.check_output("grep ^DATABASE_URL= /etc/drumline/secrets.env")
    return str(shown.partition("://")[2].partition(":")[0])


class Visits:
    """Visitors of the site, from before a change until after it."""

    def __init__(self, host: Host) -> None:
        self.host = host

    def __enter__(self) -> Self:
        self.host.check_output(f"rm -f {STOP}")
        self.pool = concurrent.futures.ThreadPoolExecutor()
        cookie = last_line(self.host, SIGN_IN)
        self.coming = self.pool.submit(self.host.check_output, f"python3 -c '{VISIT}' {STOP} '{cookie}'")
        return self

    def __exit__(self, *_: object) -> None:
        self.host.check_output(f"touch {STOP}")
        self.answers = json.loads(self.coming.result())
        self.pool.shutdown()


@pytest.fixture
def sent(host: Host) -> Iterator[list[str]]:
    """Tasks that are sent all the time, by a process that logs in for each handful."""
    identities: list[str] = []
    end = threading.Event()

    def send() -> None:
        while not end.is_set():
            identities.extend(last_line(host, SEND).split())
            end.wait(5)

    with concurrent.futures.ThreadPoolExecutor() as pool:
        sending = pool.submit(send)
        yield identities
        end.set()
        sending.result()


def test_all_passwords_are_rotated_by_one_run_and_no_request_fails_and_no_task_is_lost(
    request: pytest.FixtureRequest, host: Host, sent: list[str]
) -> None:
    folder = inventory_of(request.config) / "secrets"
    former = {name: (folder / name).read_text().strip() for name in NAMES}
    former_login = login(host)
    started = host.check_output("systemctl show -P ActiveEnterTimestampMonotonic redis-server@broker postgresql@*")

    with Visits(host) as visits:
        present = {name: secrets.token_hex(16) for name in NAMES}
        for name, password in present.items():
            (folder / name).write_text(password + "\n")
        ran = site(folder.parent)

    (paths.PROJECT / "build" / "rotated.txt").write_text(ran)
    failed = visits.answers["failed"]
    assert failed == [], f"{len(failed)} of {visits.answers['all']}: {Counter(str(answer[0]) for answer in failed)}"
    assert visits.answers["all"] > 20 * 20
    # Neither server restarted: their clients would all have waited for it.
    now = host.check_output("systemctl show -P ActiveEnterTimestampMonotonic redis-server@broker postgresql@*")
    assert now == started

    present_login = login(host)
    assert present_login != former_login
    assert database(host, present_login, present["postgresql_password"]) == "drumline"
    # The role is gone with its password.
    assert "FATAL:" in database(host, former_login, former["postgresql_password"])
    query = f'runuser -u postgres -- psql --no-psqlrc -Atc "{LOGINS}"'
    assert host.check_output(query).split() == [present_login]
    for user in ("app", "flower"):
        assert broker(host, user, present[f"redis_{user}_password"]) == "PONG"
        assert "WRONGPASS" in broker(host, user, former[f"redis_{user}_password"])

    deadline = time.monotonic() + DONE_SECONDS
    known = list(sent)
    assert len(known) > 12
    states: list[str] = []
    while states != ["SUCCESS"] * len(known):
        assert time.monotonic() < deadline, f"of {len(known)} tasks these are known: {Counter(states)}"
        states = json.loads(last_line(host, STATES, " ".join(known)))
