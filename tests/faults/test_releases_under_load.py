"""Releases in a row while people come and tasks run: no request fails, no task is lost or run twice, no queue is left alone.

    RELEASES=all pytest tests/faults/test_releases_under_load.py --hosts=ssh://drumline-local \
        --ssh-config=build/ssh/config --sudo

With RELEASES=all five deploys and two rollbacks, beside tasks of three minutes; without it one deploy, one release that is
rejected and one rollback, in four minutes. The table is printed, and written to build/releases-under-load.json.
"""

from __future__ import annotations

import concurrent.futures
import json
import os
import statistics
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import pytest
import testinfra

from tests.support.consumers import Consumers
from tests.support.on_host import inventory_of, last_line, run_site, state, testhost
from tests.support.paths import PROJECT
from tests.support.source import ENDS_AT_ONCE, allow_pings_of, copy_source
from tests.support.visitors import Visit, Visitors
from tests.support.waiting import during, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from testinfra.host import Host

ALL = os.environ.get("RELEASES") == "all"
RATE = 20
# Seconds of a task of each queue, and seconds between two of them.
LONG = 180 if ALL else 12
TASKS = {"high": (0.01, 0.2), "default": (5, 4), "low": (LONG, 1.5 * LONG / 2)}
STEPS = (
    ["deploy", "deploy", "rollback", "deploy", "deploy", "rollback", "deploy"] if ALL else ["deploy", "bad", "rollback"]
)
# Where the application may write, and root removes.
END = "/var/lib/drumline/load-end"
SEND = f"""
import json, os, time
from drumline.tasks import ping
plan, sent = {json.dumps(TASKS)}, []
due = dict.fromkeys(plan, time.monotonic())
while not os.path.exists("{END}"):
    for queue, (seconds, every) in plan.items():
        if due[queue] <= time.monotonic():
            due[queue] += every
            sent.append(ping.apply_async(args=[seconds], queue=queue).id)
    time.sleep(0.02)
print(json.dumps(sent))
"""
ROWS = """
import json, sys
from drumline.models import DurableTask
rows = DurableTask.objects.filter(id__in=sys.stdin.read().split())
print(json.dumps([[str(row.id), DurableTask.State(row.state).name, row.attempt] for row in rows]))
"""


class Work:
    """Tasks that are sent, and who consumes them, while the `with` block runs."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.sent: list[str] = []

    def __enter__(self) -> Self:
        self.host.check_output(f"rm -f {END}")
        self.consumers = Consumers(self.host)
        self.pool = concurrent.futures.ThreadPoolExecutor()
        self.sending = self.pool.submit(last_line, self.host, SEND)
        return self

    def __exit__(self, *_: object) -> None:
        self.host.check_output(f"touch {END}")
        self.sent = json.loads(self.sending.result())
        self.pool.shutdown()
        self.host.check_output(f"rm -f {END}")

    def rows(self) -> dict[str, tuple[str, int]]:
        """State and attempts of every task that was sent."""
        found: list[tuple[str, str, int]] = []
        for first in range(0, len(self.sent), 1000):
            found += json.loads(last_line(self.host, ROWS, " ".join(self.sent[first : first + 1000])))
        return {identity: (state, attempt) for identity, state, attempt in found}

    def starts(self) -> Counter[str]:
        """How often each task was started, as the workers' journals say."""
        lines = self.host.check_output(
            f"journalctl --unit='drumline-worker@*' --since=@{int(self.consumers.began)} --output=cat --no-pager | grep task_started"
        ).splitlines()
        return Counter(json.loads(line[line.index("{") :])["task_id"] for line in lines)


class Row(NamedTuple):
    """How one stretch of time went; milliseconds."""

    what: str
    seconds: int
    visitors: int
    failed: int
    p50: float
    p99: float
    fewest: str


def row(what: str, began: float, ended: float, visits: list[Visit], moments: list[tuple[float, Counter[str]]]) -> Row:
    """What came of visitors and consumers between two points of time."""
    there = [visit for visit in visits if began <= visit.at < ended]
    cuts = statistics.quantiles([visit.seconds * 1000 for visit in there], n=100)
    # What held as it began, and what came.
    first = max(number for number, (at, _) in enumerate(moments) if at <= began)
    consumers = [found for at, found in moments[first:] if at < ended]
    fewest = " ".join(f"{queue}={min(found[queue] for found in consumers)}" for queue in TASKS)
    failed = sum(visit.status != "200" for visit in there)
    return Row(what, round(ended - began), len(there), failed, round(cuts[49], 1), round(cuts[98], 1), fewest)


@pytest.fixture
def source(tmp_path: Path) -> Callable[[str], Path]:
    """Return what makes the source of a release, by a name that is its only difference."""

    def make(name: str) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        copy_source(folder)
        (folder / "app" / "another").write_text(f"{name}\n")
        allow_pings_of(LONG, folder)
        # Some projects have in git what was collected once.
        collected = folder / "app/static/admin/css"
        collected.mkdir(parents=True)
        (collected / "base.css").touch()
        if name.startswith("bad"):
            celery = folder / "app/config/celery.py"
            celery.write_text(celery.read_text() + ENDS_AT_ONCE)
        return folder

    return make


def from_elsewhere(host: Host) -> tuple[Host, str]:
    """Where visitors come from, and the address they come to: this machine to a test host of it, else the host to itself."""
    told = testhost("list", str(host.backend.host.name))
    return (testinfra.get_host("local://"), told[0]["address"]) if told else (host, "127.0.0.1")


def draining(host: Host) -> list[str]:
    """Units of workers that do not consume, and stand-ins that do."""
    listed = host.check_output(
        "systemctl list-units --plain --no-legend --state=active,activating,deactivating 'drumline-worker@*'"
    )
    units = [line.split() for line in listed.splitlines()]
    return [unit for unit, _, active, *_ in units if (active != "active") != unit.endswith("-0.service")]


def releases(host: Host) -> set[str]:
    """Releases that workers run from."""
    shown = host.check_output(
        "for pid in $(systemctl show --property=MainPID --value 'drumline-worker@*' | grep -v '^0$'); do readlink /proc/$pid/cwd; done"
    )
    return {path.split("/releases/")[1].partition("/")[0] for path in shown.split()}


def test_releases_in_a_row_fail_no_request_lose_no_task_and_leave_no_queue_alone(
    request: pytest.FixtureRequest, host: Host, source: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    inventory = inventory_of(request.config)

    def run(playbook: str, **variables: Any) -> subprocess.CompletedProcess[str]:
        return run_site(
            inventory, f"--extra-vars={json.dumps({'app_drain_patience': 3, **variables})}", playbook=playbook
        )

    def clock() -> float:
        return float(host.check_output("date +%s.%N"))

    if ALL:
        # The tasks of three minutes need a release that runs them.
        first = run("deploy.yml", app_source=str(source("first")))
        assert first.returncode == 0, first.stdout[-4000:]

    stretches: list[tuple[str, float, float]] = []
    visiting, address = from_elsewhere(host)
    with Visitors(visiting, "/", "/admin/login/", rate=RATE, address=address) as visitors, Work(host) as work:
        began = clock()
        during(60 if ALL else 10)
        stretches.append(("before", began, clock()))
        for number, step in enumerate(STEPS, start=1):
            if step == "bad":
                wait_until(lambda: not draining(host), "every worker is back", seconds=2 * LONG + 30, pause=1)
            before, began = state(host), clock()
            if step == "rollback":
                ran = run("rollback.yml")
            else:
                ran = run("deploy.yml", app_source=str(source(f"{step}{number}")))
            stretches.append((f"{number} {step}", began, clock()))
            if step == "bad":
                assert ran.returncode != 0, ran.stdout[-4000:]
                assert "this release has no workers" in ran.stdout, ran.stdout[-4000:]
                wait_until(lambda: not draining(host), "every worker is back", seconds=2 * LONG + 30, pause=1)
                assert state(host) == before
            else:
                assert ran.returncode == 0, ran.stdout[-4000:]
                assert state(host)["current"] != before["current"]

    wait_until(
        lambda: {ended for ended, _ in work.rows().values()} == {"FINISHED"},
        lambda: f"every task has ended: {Counter(work.rows().values())}",
        seconds=2 * LONG + 60,
        pause=5,
    )
    current = host.check_output("readlink /opt/drumline/current").rpartition("/")[2]
    wait_until(
        lambda: not draining(host) and releases(host) == {current},
        lambda: f"every worker runs {current}: {releases(host)}, {draining(host)}",
        seconds=LONG + 60,
        pause=5,
    )
    rows, starts = work.rows(), work.starts()
    moments = work.consumers.moments()
    table = [row(*stretch, visitors.visits, moments) for stretch in stretches]
    lost = [identity for identity in work.sent if rows.get(identity, ("", 0))[0] != "FINISHED"]
    twice = {identity for identity, (_, attempt) in rows.items() if attempt != 1}
    twice |= {identity for identity in work.sent if starts[identity] > 1}
    alone = work.consumers.alone(TASKS)
    failed = [visit for visit in visitors.visits if visit.status != "200"]

    told = {"tasks": len(work.sent), "lost": len(lost), "twice": len(twice), "alone": len(alone), "failed": len(failed)}
    report = {"steps": [one._asdict() for one in table], **told}
    (PROJECT / "build" / "releases-under-load.json").write_text(json.dumps(report, indent=2) + "\n")
    with capsys.disabled():
        for line in (Row._fields, *table):
            sys.stdout.write("\n" + "".join(f"{value!s:>12}" for value in line[:-1]) + f"   {line[-1]}")
        sys.stdout.write(f"\n{told}\n")

    assert failed == [], f"{Counter(visit.status for visit in failed)}: {failed[:3]}"
    assert (lost, twice) == ([], set())
    assert alone == []
    assert sum(starts[identity] for identity in work.sent) == len(work.sent), "a task ended that no worker had started"
