"""A deploy is cut off while it switches: the site answers, and what comes next goes on from what really ran before.

    BAD_RELEASES=all pytest tests/faults/test_killed_controller.py --hosts=ssh://drumline-local \
        --ssh-config=build/ssh/config --sudo
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from tests.support.on_host import Deploy, inventory_of, properties, run_site
from tests.support.paths import PROJECT
from tests.support.source import copy_source
from tests.support.visitors import Visitors

if TYPE_CHECKING:
    from testinfra.host import Host

pytestmark = pytest.mark.skipif(
    os.environ.get("BAD_RELEASES") != "all", reason="it takes half an hour; BAD_RELEASES=all runs it"
)

UNITS = ["drumline-web@1.service", "drumline-worker@high-1.service", "drumline-worker@low-2.service"]
LOCK = "/run/lock/drumline-deploy.json"


class Moment(NamedTuple):
    """So many seconds after this task of a deploy has begun."""

    task: str
    seconds: float = 0


RESTART = Moment("Start stopped processes and restart outdated ones, in waves", 6)
# Its workers become ready, and end while web is being switched.
ENDS_LATER = """
import os, threading
from celery.signals import worker_ready


@worker_ready.connect
def end_later(**_):
    threading.Timer(20, os._exit, (1,)).start()
"""


def left_over(host: Host) -> dict[str, Any]:
    """What a deploy that has ended leaves, beside finished releases: nothing."""
    return {
        "unfinished": host.check_output(
            "for at in /opt/drumline/releases/*; do [ -e $at/release.json ] || echo $at; done"
        ).split(),
        "artefacts": host.check_output("ls -A /opt/drumline/shared/artefacts").split(),
        "candidate": host.check_output("find /etc/drumline -path '*/candidate*' -o -name '.file_set-*'").split(),
        "before": host.run("ls /opt/drumline/shared/before.json").stdout,
        "lock": host.run(f"cat {LOCK}").stdout,
    }


NOTHING: dict[str, Any] = {"unfinished": [], "artefacts": [], "candidate": [], "before": "", "lock": ""}


def last_deploy(host: Host) -> dict[str, str]:
    entry: dict[str, str] = json.loads(host.check_output("tail -n 1 /opt/drumline/shared/deploys.jsonl"))
    return entry


@pytest.fixture
def inventory(request: pytest.FixtureRequest) -> Path:
    return inventory_of(request.config)


@pytest.fixture
def release(tmp_path: Path) -> Callable[[str], str]:
    """What makes the option that deploys another release, by its name and what the workers do."""
    source = copy_source(tmp_path)
    celery = source / "app/config/celery.py"
    text = celery.read_text()

    def change(name: str, *, harm: str = "") -> str:
        (source / "app" / "another").write_text(f"{name} {time.time()}\n")
        celery.write_text(text + harm)
        return f"--extra-vars={json.dumps({'app_source': str(source)})}"

    return change


def run(inventory: Path, *options: str, playbook: str = "deploy.yml") -> subprocess.CompletedProcess[str]:
    ran = run_site(inventory, *options, playbook=playbook)
    (PROJECT / "build" / "healed.txt").write_text(ran.stdout + ran.stderr)
    return ran


@contextmanager
def visited(host: Host) -> Iterator[None]:
    """The site answers everybody who comes meanwhile."""
    with Visitors(host, "/", "/admin/login/", rate=1) as visitors:
        yield
    failed = [visit for visit in visitors.visits if visit.status != "200"]
    assert failed == [], failed[:3]


def assert_it_runs(host: Host, release: str) -> None:
    """The release is current and on record, every process is one of its own, and nothing else is there."""
    path = f"/opt/drumline/releases/{release}"
    assert host.check_output("readlink /opt/drumline/current") == path
    assert left_over(host) == NOTHING
    for unit, shown in properties(host, UNITS, "ActiveState", "MainPID").items():
        assert shown["ActiveState"] == "active", unit
        assert host.check_output(f"readlink /proc/{shown['MainPID']}/cwd") == path, unit


def test_after_a_bad_release_whose_controller_was_killed_one_goes_back_to_what_really_ran_before(
    host: Host, inventory: Path, release: Callable[..., str]
) -> None:
    ran_before = host.check_output("basename $(readlink /opt/drumline/current)")
    bad = release("bad", harm=ENDS_LATER)
    with visited(host):
        killed = Deploy(inventory, bad)
        killed.reach(*RESTART)
        killed.kill()
        back = run(inventory, playbook="rollback.yml")
    assert back.returncode == 0, back.stdout[-4000:]
    assert_it_runs(host, ran_before)

    with visited(host):
        killed = Deploy(inventory, bad)
        killed.reach(*RESTART)
        killed.kill()
        good = run(inventory, release("good"))
    assert good.returncode == 0, good.stdout[-4000:]
    assert last_deploy(host)["before"] == ran_before
    assert_it_runs(host, last_deploy(host)["release"])

    back = run(inventory, playbook="rollback.yml")
    assert back.returncode == 0, back.stdout[-4000:]
    assert_it_runs(host, ran_before)
