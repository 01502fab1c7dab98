"""A host that an earlier version of Drumline provisioned is brought to this one by site.yml, while people come and tasks run.

    tests/molecule/run test upgrade 13

UPGRADE_FROM names another commit, tag or branch than the first one that promises it. The earlier version runs from a clone of its
own, with the programs that it locks, as it did on its user's machine.
"""

from __future__ import annotations

import concurrent.futures
import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

import pytest

from tests.support.consumers import Consumers
from tests.support.on_host import inventory_of, last_line, run_site
from tests.support.paths import PROJECT
from tests.support.source import copy_source
from tests.support.visitors import Visitors
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from testinfra.host import Host

FROM = os.environ.get("UPGRADE_FROM", "bfa215b")
UNITS = ["drumline-*"]
# Both versions know it: what they have of their own for a test has changed its name.
TASK = """

@app.task(name="upgrade.work", ignore_result=True)
def work(seconds):
    import time

    time.sleep(seconds)
"""
# Longer than a deploy waits.
LONG = 60
# Seconds of a task of each queue, and seconds between two of them.
TASKS = {"high": (0.01, 0.5), "default": (5, 4), "low": (LONG, 45)}
# What is sent is on record before the next is sent. Each process sends for some seconds, as a request would: none outlives
# the password that it has.
SENT = "/var/lib/drumline/load-sent"
REFUSED = "/var/lib/drumline/load-refused"
END = "/var/lib/drumline/load-end"
SEND = f"""
import json, os, time
from django.db import connection
from config.celery import app
plan = {json.dumps(TASKS)}
ends = time.monotonic() + 8
# By the clock of all: the next process goes on where this one ends.
due = dict((queue, (time.time() // every + 1) * every) for queue, (_, every) in plan.items())
with open("{SENT}", "a") as record, open("{REFUSED}", "a") as refused:
    while time.monotonic() < ends and not os.path.exists("{END}"):
        for queue, (seconds, every) in plan.items():
            at = time.time()
            if due[queue] <= at:
                due[queue] += every
                try:
                    sent = app.tasks["upgrade.work"].apply_async(args=[seconds], queue=queue).id
                except Exception as error:
                    print(json.dumps([at, time.time(), repr(error)]), file=refused, flush=True)
                    connection.close()
                else:
                    print(sent, file=record, flush=True)
        time.sleep(0.02)
"""
ROWS = f"""
import json
from drumline.models import DurableTask
sent = open("{SENT}").read().split()
rows = DurableTask.objects.filter(id__in=sent)
print(json.dumps([len(sent), [[DurableTask.State(row.state).name, row.attempt] for row in rows]]))
"""
# Of what went wrong.
HISTORIES = f"""
import json
from drumline.models import DurableTask
sent = open("{SENT}").read().split()
rows = DurableTask.objects.filter(id__in=sent).exclude(attempt=1)
print(json.dumps([[str(row.id), row.queue, row.history] for row in rows]))
"""


# Of systemd's messages about a unit: it begins to stop, and it has started.
STOPPING, STARTED = "de5b426a63be47a7b6ac3eaac82e2f6f", "39f53479d3a045ac8e11786248231fbf"
# What the application stands on: an update may restart each once.
SERVERS = ("postgresql@*", "redis-server@broker.service", "nginx.service")
# Seconds around a restart that still are its own.
MARGIN = 1
Span = tuple[float, float]


class Refused(NamedTuple):
    """A task that could not be sent: from when until when it was tried, and the error."""

    began: float
    ended: float
    error: str


def restarts(host: Host, unit: str, since: float) -> list[Span]:
    """From when until when a unit was restarted, in seconds since the epoch."""
    found = host.check_output(
        f"journalctl --unit='{unit}' --since=@{int(since)} --output=json MESSAGE_ID={STOPPING} MESSAGE_ID={STARTED}"
    )
    lines = [json.loads(line) for line in found.splitlines()]
    events = [(float(line["__REALTIME_TIMESTAMP"]) / 1e6, line["MESSAGE_ID"]) for line in lines]
    stops, starts = ([at for at, what in events if what == which] for which in (STOPPING, STARTED))
    return [(at, min((start for start in starts if start > at), default=float("inf"))) for at in stops]


def outside(spans: list[Span], began: float, ended: float) -> bool:
    """Whether something that went on from `began` to `ended` had nothing to do with any of the spans."""
    return all(ended < first - MARGIN or last + MARGIN < began for first, last in spans)


def can_log_in(host: Host, role: str) -> bool:
    """Whether a role of PostgreSQL may log in."""
    query = f"SELECT rolcanlogin FROM pg_roles WHERE rolname = '{role}'"
    return str(host.check_output(f'runuser -u postgres -- psql --no-align --tuples-only -c "{query}"')) == "t"


class Earlier:
    """A clone of an earlier version, with its own programs, and an inventory as its user had it."""

    def __init__(self, commit: str, inventory: Path) -> None:
        self.at = PROJECT / "build" / "upgrade" / commit
        if not self.at.exists():
            subprocess.run(["git", "clone", "--quiet", "--shared", "--no-checkout", PROJECT, self.at], check=True)
        subprocess.run(["git", "-C", self.at, "checkout", "--quiet", "--force", commit], check=True)
        subprocess.run([self.at / "ansible/bootstrap", "--no-hosts", "controller"], check=True)
        self.inventory = self.at / "build" / "inventory"
        self.inventory.mkdir(parents=True, exist_ok=True)
        (inventory / "secrets").mkdir(mode=0o700, exist_ok=True)
        for entry in inventory.iterdir():
            own = self.at / "ansible/inventories/local/group_vars" if entry.name == "group_vars" else entry
            link = self.inventory / entry.name
            link.unlink(missing_ok=True)
            link.symlink_to(own)

    def provision(self) -> None:
        """Bring the host up from nothing."""
        celery = self.at / "app/config/celery.py"
        celery.write_text(celery.read_text() + TASK)
        programs = self.at / ".venv/bin"
        own = {"ANSIBLE_CONFIG": str(self.at / "ansible/ansible.cfg"), "PATH": f"{programs}:{os.environ['PATH']}"}
        ran = subprocess.run(
            [programs / "ansible-playbook", f"--inventory={self.inventory}", "site.yml"],
            cwd=self.at / "ansible",
            env=os.environ | own | {"ANSIBLE_INVENTORY_IGNORE_REGEX": "^secrets$"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-2000:]


class Load:
    """Tasks that are sent, and who consumes them, while the `with` block runs."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.refused: list[Refused] = []

    def __enter__(self) -> Self:
        records = f"for at in {SENT} {REFUSED}; do install -o drumline -m 0644 /dev/null $at; done"
        self.host.check_output(f"rm -f {END} && {records}")
        self.consumers = Consumers(self.host)
        self.pool = concurrent.futures.ThreadPoolExecutor()
        loop = f"until [ -e {END} ]; do drumline-manage shell --command='{SEND}' || exit; done"
        self.sending = self.pool.submit(self.host.run, loop)
        return self

    def __exit__(self, *_: object) -> None:
        self.host.check_output(f"touch {END}")
        sent = self.sending.result()
        assert sent.rc == 0, f"what sends tasks has ended: {sent.stderr[-3000:]}"
        lines = self.host.check_output(f"cat {REFUSED}").splitlines()
        self.refused = [Refused(*json.loads(line)) for line in lines]
        self.pool.shutdown()
        self.host.check_output(f"rm -f {END}")

    def rows(self) -> tuple[int, Counter[tuple[str, int]]]:
        """How many tasks were sent, and states and attempts of their rows."""
        sent, rows = json.loads(last_line(self.host, ROWS))
        return sent, Counter((state, attempt) for state, attempt in rows)


@pytest.fixture(scope="module")
def provisioned(request: pytest.FixtureRequest, host: Host) -> None:
    Earlier(FROM, inventory_of(request.config)).provision()
    assert host.check_output("systemctl is-active drumline.target") == "active"


@pytest.mark.usefixtures("provisioned")
def test_a_host_of_an_earlier_version_comes_to_this_one_and_no_request_fails_and_no_task_is_lost(
    request: pytest.FixtureRequest, host: Host, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inventory = inventory_of(request.config)
    source = copy_source(tmp_path)
    celery = source / "app/config/celery.py"
    celery.write_text(celery.read_text() + TASK)
    upgrade = f"--extra-vars=app_source={source}"

    began = float(host.check_output("date +%s"))

    with Visitors(host, "/", "/admin/login/", "/readyz", rate=5) as visitors, Load(host) as load:
        ran = run_site(inventory, upgrade)
        (PROJECT / "build" / "upgraded.txt").write_text(ran.stdout + ran.stderr)
    assert ran.returncode == 0, ran.stdout[-4000:]
    sent, _ = load.rows()
    wait_until(
        lambda: load.rows() == (sent, Counter({("FINISHED", 1): sent})),
        lambda: (
            f"every one of {sent} tasks has ended, at its first attempt: {load.rows()}, {last_line(host, HISTORIES)}"
        ),
        seconds=4 * LONG,
        pause=5,
    )
    assert load.consumers.alone(TASKS) == []

    # docs/upgrading.md names these exceptions.
    away = {server: restarts(host, server, began) for server in SERVERS}
    assert all(len(spans) <= 1 for spans in away.values()), away
    there = [span for spans in away.values() for span in spans]
    failed = [visit for visit in visitors.visits if visit.status != "200"]
    unexplained = [visit for visit in failed if outside(there, visit.at, visit.at + visit.seconds)]
    assert unexplained == [], f"{Counter(visit.status for visit in unexplained)}, {away}: {unexplained[:3]}"
    refused = [one for one in load.refused if outside(away["postgresql@*"], one.began, one.ended)]
    assert refused == [], f"{away}: {refused[:3]}"
    with capsys.disabled():
        gone = {server: [round(last - first, 1) for first, last in spans] for server, spans in away.items()}
        sys.stdout.write(
            f"\n{len(visitors.visits)} visits, {len(failed)} failed, {sent} tasks sent, {len(load.refused)} refused,"
            f" all within these restarts (seconds): {gone}\n"
        )

    # The login of the earlier version: a worker that was left to a long task may have kept it for that.
    after = run_site(inventory, upgrade)
    assert after.returncode == 0, after.stdout[-4000:]
    assert not can_log_in(host, "drumline")
    again = run_site(inventory, upgrade)
    assert again.returncode == 0, again.stdout[-4000:]
    assert re.search(r"changed=0 .* failed=0 ", again.stdout), again.stdout[-4000:]
    verified = run_site(inventory, upgrade, playbook="verify.yml")
    assert verified.returncode == 0, verified.stdout[-4000:]
