"""Drumline's own units, as systemd runs them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.on_host import properties, ratings

if TYPE_CHECKING:
    from testinfra.host import Host

UNITS = ["drumline-*"]

SANDBOX = {
    "CapabilityBoundingSet": "",
    "LockPersonality": "yes",
    "NoNewPrivileges": "yes",
    "PrivateDevices": "yes",
    "PrivateTmp": "yes",
    "ProtectClock": "yes",
    "ProtectControlGroups": "yes",
    "ProtectHome": "yes",
    "ProtectHostname": "yes",
    "ProtectKernelLogs": "yes",
    "ProtectKernelModules": "yes",
    "ProtectKernelTunables": "yes",
    "ProtectProc": "invisible",
    "ProtectSystem": "strict",
    "RestrictNamespaces": "yes",
    "RestrictRealtime": "yes",
    "RestrictSUIDSGID": "yes",
}


@pytest.fixture(scope="module")
def services(host: Host) -> list[str]:
    """Every service of Drumline that a process belongs to; the firewall's unit loads rules and is gone."""
    listed = host.check_output("systemctl list-units --all --plain --no-legend 'drumline-*.service'")
    names = [line.split()[0] for line in listed.splitlines()]
    return [name for name, unit in properties(host, names, "Type").items() if unit["Type"] != "oneshot"]


def test_every_process_of_the_model_is_active(host: Host, model: dict[str, Any], services: list[str]) -> None:
    workers = {
        f"drumline-worker@{queue}-{n}.service"
        for queue, numbers in model["app_queues"].items()
        for n in range(1, numbers["instances"] + 1)
    }
    expected = workers | {f"drumline-{name}.service" for name in ("web@1", "web@2", "relay", "beat", "flower")}
    active = {
        name for name, unit in properties(host, services, "ActiveState").items() if unit["ActiveState"] == "active"
    }
    assert expected - active == set()
    assert {name for name in services if name.startswith("drumline-worker@")} == workers


def test_the_target_starts_with_the_host(host: Host) -> None:
    assert host.service("drumline.target").is_running
    assert host.service("drumline.target").is_enabled


def test_no_process_has_restarted_since_it_was_started(host: Host, services: list[str]) -> None:
    restarts = {name: unit["NRestarts"] for name, unit in properties(host, services, "NRestarts").items()}
    assert {name: count for name, count in restarts.items() if count != "0"} == {}


def test_every_process_runs_from_the_folder_of_a_release_and_from_no_link_that_moves(
    host: Host, services: list[str]
) -> None:
    by_link = {}
    for name, unit in properties(host, services, "MainPID").items():
        command = host.check_output(f"tr '\\0' ' ' < /proc/{unit['MainPID']}/cmdline")
        if "/opt/drumline/" in command and "/current/" in command:
            by_link[name] = command
    assert by_link == {}


def test_the_sandbox_is_in_force_as_systemd_sees_it(host: Host, services: list[str]) -> None:
    open_doors = {}
    for name, shown in properties(host, services, *SANDBOX).items():
        if wrong := {key: shown.get(key) for key, value in SANDBOX.items() if shown.get(key) != value}:
            open_doors[name] = wrong
    assert open_doors == {}


def test_the_sandbox_is_in_force_as_the_kernel_sees_it(host: Host, services: list[str]) -> None:
    open_doors = {}
    processes = {name: unit["MainPID"] for name, unit in properties(host, services, "MainPID").items()}
    shown = host.check_output("cat " + " ".join(f"/proc/{process}/status" for process in processes.values()))
    for name, one in zip(processes, shown.split("Name:\t")[1:], strict=True):
        status = dict(line.split(":\t", 1) for line in one.splitlines() if ":\t" in line)
        held = {key: status[key].split()[0] for key in ("CapEff", "CapBnd", "NoNewPrivs", "Seccomp")}
        if (
            held != {"CapEff": "0" * 16, "CapBnd": "0" * 16, "NoNewPrivs": "1", "Seccomp": "2"}
            or "0" in status["Uid"].split()
        ):
            open_doors[name] = {**held, "Uid": status["Uid"]}
    assert open_doors == {}


def test_every_unit_is_rated_two_or_better(host: Host, services: list[str]) -> None:
    assert {name: rating for name, rating in ratings(host, services).items() if rating > 2.0} == {}


def test_busy_queues_share_the_cpu_as_the_model_says(host: Host, model: dict[str, Any]) -> None:
    for queue, numbers in model["app_queues"].items():
        [worker] = properties(host, [f"drumline-worker@{queue}-1.service"], "Slice").values()
        weights = {unit["CPUWeight"] for unit in properties(host, [worker["Slice"]], "CPUWeight").values()}
        assert weights == {str(numbers["cpu_weight"])}, queue


def test_a_management_command_leaves_the_processors_to_the_site(host: Host) -> None:
    """A deploy runs several while visitors come."""
    weight = host.check_output("""
        drumline-manage --module http.server --bind 127.0.0.1 0 >/dev/null & unit=drumline-manage-$!
        timeout 30 sh -c "until systemctl is-active --quiet $unit; do sleep 0.1; done" && systemctl show -P CPUWeight $unit
        systemctl stop $unit
    """)
    [web] = properties(host, ["drumline-web.slice"], "CPUWeight").values()
    assert int(weight) * 100 == int(web["CPUWeight"])


def test_nothing_but_ssh_and_the_site_listens_beyond_the_loopback(host: Host) -> None:
    ports = set()
    for line in host.check_output("ss -Hltn").splitlines():
        at, _, port = line.split()[3].rpartition(":")
        if not at.startswith(("127.", "[::1]")):
            ports.add(int(port))
    # What the firewall's own test listens on is no part of the site.
    assert ports - {18080} == {22, 80, 443}


def test_strangers_on_the_host_read_no_secret(host: Host) -> None:
    for user in ("nobody", "www-data", "drumline-flower"):
        assert host.run(f"runuser -u {user} -- cat /opt/drumline/current/secrets.env").rc != 0, user


def test_every_queue_answers(host: Host, model: dict[str, Any]) -> None:
    environment = "cd /opt/drumline/current; set -a; . ./app.env; . ./secrets.env"
    queues = list(model["app_queues"])
    command = f".venv/bin/python manage.py enqueue drumline.ping --queue {','.join(queues)} --wait 30"
    printed = host.check_output(f"{environment}; runuser -u drumline -- {command}")
    reports = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    assert [(report["queue"], report["state"]) for report in reports] == [(queue, "SUCCESS") for queue in queues]
