"""A deploy is cut off at any of its steps: the site answers throughout, and the next deploy finishes or undoes the work.

    pytest tests/faults/test_killed_controller.py --hosts=ssh://drumline-local \
        --ssh-config=build/ssh/config --sudo
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from tests.support import on_host
from tests.support.on_host import Deploy, inventory_of, properties, run_site, state
from tests.support.paths import PROJECT, TESTHOST
from tests.support.source import copy_source
from tests.support.visitors import Visitors

if TYPE_CHECKING:
    from testinfra.host import Host

UNITS = ["drumline-web@1.service", "drumline-worker@high-1.service", "drumline-worker@low-2.service"]
LOCK = "/run/lock/drumline-deploy.json"


class Moment(NamedTuple):
    """So many seconds after this task of a deploy has begun."""

    task: str
    seconds: float = 0


INSTALL = Moment("Install the source and its virtual environment", 1)
RESTART = Moment("Start stopped processes and restart outdated ones, in waves", 6)
STEPS = {
    "preflight": Moment("Stop if the inventory has problems"),
    "build": Moment("Build the artefact on the controller, unless it exists", 1),
    "ship": Moment("Upload the artefact"),
    "install": INSTALL,
    "check": Moment("Check the settings and the process model", 1),
    "migrate": Moment("Run the release's commands", 1),
    "activate": Moment("Activate the secrets"),
    "switch": Moment("Remove the environment for the checks"),
    "restart": RESTART,
    "verify": Moment("Request the health path on the host"),
    "record": Moment("Write down what became of the release"),
    "prune": Moment("Remove that and old releases"),
}
# Its workers become ready, and end while web is being switched.
ENDS_LATER = """
import os, threading
from celery.signals import worker_ready


@worker_ready.connect
def end_later(**_):
    threading.Timer(20, os._exit, (1,)).start()
"""
# What a host does with packets of SSH that come in.
NETWORK = (
    "add table inet fault; add chain inet fault input {{ type filter hook input priority -300; }}; "
    "add rule inet fault input tcp dport 22 {verdict}"
)
AWAY = 60


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


@pytest.mark.parametrize("name", STEPS)
def test_a_controller_that_is_killed_leaves_a_working_site_and_the_next_deploy_finishes(
    host: Host, inventory: Path, release: Callable[..., str], name: str
) -> None:
    options = release(name)
    with visited(host):
        killed = Deploy(inventory, options)
        killed.reach(*STEPS[name])
        killed.kill()
        if name in ("ship", "install"):
            # Somebody else comes next, with another release.
            options = release(f"after {name}")
        healed = run(inventory, options)

    assert healed.returncode == 0, healed.stdout[-4000:]
    assert last_deploy(host)["outcome"] == "runs"
    assert_it_runs(host, last_deploy(host)["release"])


def test_a_bad_release_whose_controller_was_killed_is_rejected_for_what_really_ran_before(
    host: Host, inventory: Path, release: Callable[..., str]
) -> None:
    before, ran_before = state(host), host.check_output("basename $(readlink /opt/drumline/current)")
    options = release("bad", harm=ENDS_LATER)
    with visited(host):
        killed = Deploy(inventory, options)
        killed.reach(*RESTART)
        killed.kill()
        again = run(inventory, options)

    assert again.returncode != 0, again.stdout[-4000:]
    assert "soon after its start" in again.stdout
    assert f"The release {ran_before} runs again" in again.stdout
    assert_it_runs(host, ran_before)
    assert state(host) == before


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


@contextmanager
def ssh_is(host: Host, verdict: str) -> Iterator[None]:
    """What comes to the host by SSH meets that verdict meanwhile."""
    name = host.check_output("hostname")
    if on_host.testhost("list", name) is None:
        pytest.skip("only a test host of this machine can be reached otherwise")

    def nft(rules: str) -> None:
        subprocess.run(
            [sys.executable, str(TESTHOST), "exec", name, "--", "nft", rules], check=True, capture_output=True
        )

    nft(NETWORK.format(verdict=verdict))
    try:
        yield
    finally:
        nft("delete table inet fault")


def test_a_deploy_waits_for_a_network_that_is_away_for_a_minute(
    host: Host, inventory: Path, release: Callable[..., str]
) -> None:
    with visited(host):
        deploy = Deploy(inventory, release("over a bad line"))
        deploy.reach(*RESTART)
        with ssh_is(host, "drop"):
            time.sleep(AWAY)
        ended = deploy.end()

    assert ended.returncode == 0, ended.stdout[-4000:]
    assert_it_runs(host, last_deploy(host)["release"])


@pytest.mark.parametrize("moment", [INSTALL, RESTART], ids=["install", "restart"])
def test_a_host_that_is_lost_half_way_is_named_and_the_next_deploy_finishes(
    host: Host, inventory: Path, release: Callable[..., str], moment: Moment
) -> None:
    options = release("lost")
    with visited(host):
        deploy = Deploy(inventory, options)
        deploy.reach(*moment)
        with ssh_is(host, "reject with tcp reset"):
            ended = deploy.end()
        (PROJECT / "build" / "lost.txt").write_text(ended.stdout)
        healed = run(inventory, options)

    assert ended.returncode != 0, ended.stdout[-4000:]
    assert "cannot be reached. Its processes run on." in ended.stdout
    assert "run the same playbook again" in ended.stdout
    assert healed.returncode == 0, healed.stdout[-4000:]
    assert_it_runs(host, last_deploy(host)["release"])
