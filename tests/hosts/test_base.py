"""What every host has."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from tests.support.on_host import testhost

if TYPE_CHECKING:
    from testinfra.host import Host


def test_nobody_logs_in_as_the_application(host: Host) -> None:
    user = host.user("drumline")
    assert user.shell == "/usr/sbin/nologin"
    assert "L" in host.check_output("passwd --status drumline").split()[1]


@pytest.mark.parametrize(
    ("path", "allowed"),
    [("/opt/drumline", True), ("/etc/drumline", False), ("/var/lib/drumline", False)],
)
def test_strangers_on_the_host_read_the_releases_only(host: Host, path: str, *, allowed: bool) -> None:
    assert (host.run(f"runuser -u nobody -- ls {path}").rc == 0) is allowed


def test_the_host_knows_whose_it_is_and_whether_it_holds_the_database(host: Host) -> None:
    fact = json.loads(host.file("/etc/ansible/facts.d/drumline.fact").content_string)

    assert fact["project"]
    assert fact.get("database", False) is host.file("/etc/postgresql").exists


def test_sshd_takes_keys_and_no_passwords(host: Host) -> None:
    effective = dict(line.split(" ", 1) for line in host.check_output("/usr/sbin/sshd -T").splitlines() if " " in line)
    assert effective["passwordauthentication"] == "no"
    assert effective["kbdinteractiveauthentication"] == "no"
    assert effective["permitrootlogin"] in ("no", "prohibit-password", "without-password")


def test_security_updates_come_by_themselves(host: Host) -> None:
    assert host.service("apt-daily-upgrade.timer").is_enabled
    effective = host.check_output("apt-config dump APT::Periodic::Unattended-Upgrade")
    assert '"1"' in effective


def test_no_unit_has_failed(host: Host) -> None:
    assert host.check_output("systemctl list-units --failed --plain --no-legend") == ""


def test_a_test_host_has_all_processors(host: Host, name: str) -> None:
    """What it measures is not what it would with one, which is all that Mitogen leaves to what it starts here."""
    if not testhost("list", name):
        pytest.skip(f"{name} is not a test host of this machine: it has processors of its own.")
    assert int(host.check_output("nproc")) == os.cpu_count()


def test_the_kernel_keeps_a_unit_within_its_memory(host: Host) -> None:
    run = "systemd-run --wait --pipe --quiet --collect --property=MemoryMax=50M --property=MemorySwapMax=0"
    within, beyond = (
        host.run(f"{run} python3 -c 'print(len(bytearray({megabytes} << 20)))' || true").stdout.strip()
        for megabytes in (10, 200)
    )
    assert within == str(10 << 20)
    assert beyond == "", f"it took {beyond} bytes of its 50 MB"


def test_the_kernel_weighs_the_time_of_units(host: Host) -> None:
    run = "systemd-run --wait --pipe --quiet --collect"
    # With cgroup v2, and with v1 for each of its controllers.
    show = (
        "G=$(systemctl show -P ControlGroup $0); cat /sys/fs/cgroup$G/cpu.weight || cat /sys/fs/cgroup/cpu$G/cpu.shares"
    )
    light, heavy = (
        int(
            host.check_output(
                f"{run} --unit=weighs-{weight} --property=CPUWeight={weight} sh -c '{show}' weighs-{weight}"
            )
        )
        for weight in (100, 1000)
    )
    assert heavy == 10 * light
