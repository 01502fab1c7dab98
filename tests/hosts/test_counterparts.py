"""What stands in for other people's services on local hosts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.support.paths import ANSIBLE

if TYPE_CHECKING:
    from testinfra.host import Host

LOCAL = yaml.safe_load((ANSIBLE / "inventories/local/group_vars/local/main.yml").read_text())
PORTS = {name: arguments.split()[0] for name, arguments in LOCAL["counterparts_programs"].items()}
UNITS = [f"drumline-counterpart@{name}.service" for name in PORTS]


@pytest.mark.parametrize("unit", UNITS)
def test_it_runs_starts_with_the_host_and_its_sandbox_is_tight(host: Host, unit: str) -> None:
    assert host.service(unit).is_running
    assert host.service(unit).is_enabled
    assert host.run(f"systemd-analyze security --threshold=20 {unit}").rc == 0


@pytest.mark.parametrize("port", PORTS.values())
def test_it_listens_on_the_loopback_alone(host: Host, port: str) -> None:
    listening = [line.split()[3] for line in host.check_output(f"ss -Hltn sport = :{port}").splitlines()]
    assert listening == [f"127.0.0.1:{port}"]


def test_a_misspelt_one_does_not_start(host: Host) -> None:
    assert host.run("systemctl start drumline-counterpart@crn.service").rc != 0


def test_what_fails_in_the_application_is_reported_to_the_sentry(host: Host) -> None:
    # A week that is none: the task fails for good.
    host.run("drumline-manage enqueue notifications.send_weekly_digest '[\"no day\"]' --wait 30")
    fetch = f"import urllib.request as it; print(it.urlopen('http://127.0.0.1:{PORTS['sentry']}/').read().decode())"
    events = json.loads(host.check_output(f'python3 -c "{fetch}"'))
    assert [event for event in events if event["transaction"] == "notifications.send_weekly_digest"]
