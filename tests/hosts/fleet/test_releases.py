"""Releases on a fleet whose processes are on hosts of their own: each reaches every host, or none."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.on_host import inventory_of, run_site
from tests.support.source import ENDS_AT_ONCE, copy_source
from tests.support.visitors import Visitors

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from testinfra.host import Host

UNITS = ["drumline-*"]
FOLDERS = r"find /proc -mindepth 2 -maxdepth 2 -name cwd -lname '/opt/drumline/releases/*' -printf '%l\n' | sort -u"


@pytest.fixture
def running(members: Callable[..., list[Host]]) -> Callable[[], set[str]]:
    """Ask which releases are current on the hosts of the application, and which ones its processes were started from."""

    def ask() -> set[str]:
        hosts = members("web", "worker", "beat")
        return {
            path for host in hosts for path in host.check_output(f"readlink /opt/drumline/current; {FOLDERS}").split()
        }

    return ask


def test_a_deploy_and_a_rollback_reach_every_host_and_fail_no_request(
    request: pytest.FixtureRequest,
    host: Host,
    running: Callable[[], set[str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    inventory = inventory_of(request.config)
    copy_source(tmp_path)
    (tmp_path / "app" / "another").write_text("code only\n")
    (before,) = running()

    with Visitors(host, "/", "/admin/login/", rate=5) as visitors:
        deployed = run_site(inventory, f"--extra-vars=app_source={tmp_path}", playbook="deploy.yml")
        after = running()
        back = run_site(inventory, playbook="rollback.yml")
    with capsys.disabled():
        for verb, ran in (("deploy", deployed), ("rollback", back)):
            print(f"\n{verb}: {took(ran.stdout)}")  # noqa: T201 - the figures are what one looks for

    assert deployed.returncode == 0, deployed.stdout[-4000:]
    assert back.returncode == 0, back.stdout[-4000:]
    assert len(after) == 1, f"several releases at once after the deploy: {after}"
    assert after != {before}
    assert running() == {before}
    assert {visit.status for visit in visitors.visits} == {"200"}


def test_a_release_whose_workers_end_at_once_on_one_host_is_taken_back_on_every_host(
    request: pytest.FixtureRequest,
    host: Host,
    members: Callable[..., list[Host]],
    running: Callable[[], set[str]],
    tmp_path: Path,
) -> None:
    last = members("worker")[-1].backend.host.name
    copy_source(tmp_path)
    celery = tmp_path / "app/config/celery.py"
    celery.write_text(
        celery.read_text() + ENDS_AT_ONCE.replace("os._exit(1)", f"os.uname()[1] == '{last}' and os._exit(1)")
    )
    (before,) = running()

    with Visitors(host, "/", "/admin/login/", rate=5) as visitors:
        ran = run_site(inventory_of(request.config), f"--extra-vars=app_source={tmp_path}", playbook="deploy.yml")

    assert ran.returncode != 0, ran.stdout[-4000:]
    assert f"was rejected. Failed on {last}" in ran.stdout, ran.stdout[-4000:]
    assert "this release has no workers" in ran.stdout, ran.stdout[-4000:]
    assert running() == {before}
    for worker in members("worker"):
        worker.check_output("drumline-manage enqueue drumline.ping --queue high,default,low --wait 60")
    assert {visit.status for visit in visitors.visits} == {"200"}


def test_hosts_that_would_go_back_to_different_releases_stay_where_they_are(
    request: pytest.FixtureRequest, members: Callable[..., list[Host]], running: Callable[[], set[str]]
) -> None:
    (current,) = running()
    record = "/opt/drumline/shared/deploys.jsonl"
    *others, last = members("web", "beat", "worker")
    before = dict.fromkeys(others, "0123456789ab") | {last: "ba9876543210"}
    for host, release in before.items():
        entry = {"what": "deploy", "outcome": "runs", "release": current.rpartition("/")[2], "before": release}
        host.check_output(f"cp {record} /root/record && echo %s >>{record}", json.dumps(entry))
        host.check_output(f"mkdir /opt/drumline/releases/{release}")
    try:
        ran = run_site(inventory_of(request.config), playbook="rollback.yml")
        named = run_site(
            inventory_of(request.config), f"--extra-vars=rollback_to={before[last]}", playbook="rollback.yml"
        )
    finally:
        for host, release in before.items():
            host.check_output(f"mv /root/record {record} && rmdir /opt/drumline/releases/{release}")

    assert ran.returncode != 0, ran.stdout[-4000:]
    assert "The hosts would go back to different releases" in ran.stdout, ran.stdout[-4000:]
    assert named.returncode != 0, named.stdout[-4000:]
    assert f"The release {before[last]} is not on {others[0].backend.host.name}" in named.stdout, named.stdout[-4000:]
    assert "It failed on another host; see that host's message for the reason." in named.stdout, named.stdout[-4000:]
    assert running() == {current}
    assert locked(members("all")) == []


def test_a_run_of_one_host_changes_nothing_between_it_and_the_others(
    request: pytest.FixtureRequest, members: Callable[..., list[Host]]
) -> None:
    for group in ("redis", "worker"):
        one = members(group)[-1].backend.host.name
        ran = run_site(inventory_of(request.config), f"--limit={one}")
        assert ran.returncode == 0, ran.stdout[-4000:]
        assert re.search(rf"^{one} .* changed=0 ", ran.stdout, re.MULTILINE), ran.stdout[-4000:]


def test_a_worker_host_that_is_drained_leaves_its_queues_to_the_other_and_comes_back(
    request: pytest.FixtureRequest, host: Host, members: Callable[..., list[Host]]
) -> None:
    inventory = inventory_of(request.config)
    drained = members("worker")[0]
    limit = f"--limit={drained.backend.host.name}"
    processes = "systemctl list-units --plain --no-legend --state=active 'drumline-worker@*' | wc -l"
    ping = "drumline-manage enqueue drumline.ping --queue high,default,low --wait 60"

    ran = run_site(inventory, limit, playbook="drain.yml")
    assert ran.returncode == 0, ran.stdout[-4000:]
    assert drained.check_output(processes) == "0"
    host.check_output(ping)

    refused = run_site(inventory, playbook="deploy.yml")
    assert refused.returncode != 0, refused.stdout[-4000:]
    assert "has locked this host since" in refused.stdout, refused.stdout[-4000:]
    assert "Another host is locked" in refused.stdout, refused.stdout[-4000:]
    assert locked(members("all")) == []

    ran = run_site(inventory, limit, playbook="restart.yml")
    assert ran.returncode == 0, ran.stdout[-4000:]
    assert drained.check_output(processes) != "0"
    host.check_output(ping)


def locked(hosts: list[Host]) -> list[str]:
    """The hosts that somebody deploys to."""
    return [host.backend.host.name for host in hosts if host.file("/run/lock/drumline-deploy.json").exists]


def took(printed: str) -> Any:
    """The closing line of a run, with its seconds."""
    return re.findall(r"^Took (.*)$", printed, re.MULTILINE)[-1:]
