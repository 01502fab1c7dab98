"""Every password of the database and the broker is changed while people come and tasks run: nobody notices.

    ROTATION=all pytest tests/faults/test_rotation.py --hosts=ssh://drumline-local --ssh-config=build/ssh/config --sudo

Without ROTATION=all nothing runs, since the playbook runs over the whole site several times.
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
from typing import TYPE_CHECKING

import pytest

from tests.support import paths
from tests.support.on_host import inventory_of, last_line, run_site
from tests.support.source import allow_pings_of, copy_source
from tests.support.visitors import Visitors
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from testinfra.host import Host

ANSIBLE = Path(os.environ.get("ROTATION_ANSIBLE", paths.ANSIBLE))

pytestmark = pytest.mark.skipif(
    os.environ.get("ROTATION") != "all", reason="it takes ten minutes; ROTATION=all runs it"
)

NAMES = ("postgresql_password", "redis_app_password", "redis_flower_password")
DONE_SECONDS = 180

# Most have a session, which is read from the database; every fifth asks /readyz, which logs in to the database and to the
# broker each time.
PATHS = ("/readyz", *["/admin/login/"] * 4)
SIGN_IN = """
from django.contrib.auth import get_user_model
from django.test import Client
client = Client()
client.force_login(get_user_model().objects.get(email="admin@drumline.test"))
print(client.cookies.output(attrs=[], header="", sep=";").strip())
"""

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
# Longer than a run of the playbook takes to its end.
LONG = 240
SEND_LONG = f"""
from drumline.tasks import ping
print(ping.apply_async(args=[{LONG}], queue="low").id)
"""
DRAINED = """
import sys
from drumline.models import DurableTask
row = DurableTask.objects.get(id=sys.stdin.read().strip())
print(DurableTask.State(row.state).name, row.attempt)
"""
LOGINS = "SELECT rolname FROM pg_roles WHERE rolcanlogin AND rolname LIKE 'drumline%'"


def site(inventory: Path, *options: str) -> str:
    ran = run_site(inventory, *options, ansible=ANSIBLE)
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
    shown = host.check_output("grep ^DATABASE_URL= /opt/drumline/current/secrets.env")
    return str(shown.partition("://")[2].partition(":")[0])


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

    with Visitors(host, *PATHS, rate=20, cookie=last_line(host, SIGN_IN)) as visitors:
        present = {name: secrets.token_hex(16) for name in NAMES}
        for name, password in present.items():
            (folder / name).write_text(password + "\n")
        ran = site(folder.parent)

    (paths.PROJECT / "build" / "rotated.txt").write_text(ran)
    failed = [visit for visit in visitors.visits if visit.status not in ("200", "302")]
    assert failed == [], f"{len(failed)} of {len(visitors.visits)}: {Counter(visit.status for visit in failed)}"
    assert len(visitors.visits) > 20 * 20
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


def test_a_worker_that_drains_keeps_its_passwords_until_its_task_has_ended_and_the_next_run_revokes_them(
    request: pytest.FixtureRequest, host: Host, tmp_path: Path
) -> None:
    folder = inventory_of(request.config) / "secrets"
    source = copy_source(tmp_path)
    allow_pings_of(LONG, source)
    options = f"--extra-vars={json.dumps({'app_source': str(source), 'app_drain_patience': 3})}"
    site(folder.parent, options)
    former, former_login = (folder / "postgresql_password").read_text().strip(), login(host)
    task = last_line(host, SEND_LONG)
    wait_until(lambda: last_line(host, DRAINED, task) == "RUNNING 1", "the task runs", seconds=30)

    (folder / "postgresql_password").write_text(secrets.token_hex(16) + "\n")
    ran = site(folder.parent, options)

    assert "the one before is still accepted" in ran
    assert last_line(host, DRAINED, task) == "RUNNING 1"
    assert database(host, former_login, former) == "drumline"
    wait_until(
        lambda: last_line(host, DRAINED, task) == "FINISHED 1",
        lambda: f"the task has ended at its first attempt: {last_line(host, DRAINED, task)}",
        seconds=LONG,
        pause=2,
    )
    wait_until(
        lambda: host.run("systemctl list-units --state=deactivating --no-legend 'drumline-worker@*'").stdout == "",
        "the worker is back",
        seconds=60,
    )
    site(folder.parent, options)
    assert "FATAL:" in database(host, former_login, former)
