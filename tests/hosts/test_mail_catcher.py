"""The mail catcher of local and staging hosts."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from testinfra.host import Host

UNITS = ["drumline-mail-catcher.service"]


def test_it_runs_and_starts_with_the_host(host: Host) -> None:
    assert host.service(UNITS[0]).is_running
    assert host.service(UNITS[0]).is_enabled


def test_it_listens_on_the_loopback_alone(host: Host) -> None:
    listening = [line.split()[3] for line in host.check_output("ss -Hltn sport = :1025").splitlines()]
    assert listening == ["127.0.0.1:1025"]


def test_it_speaks_smtp(host: Host) -> None:
    conversation = "import smtplib; print(smtplib.SMTP('127.0.0.1', 1025, timeout=10).noop()[0])"
    assert host.check_output(f'python3 -c "{conversation}"') == "250"


def test_root_alone_reads_the_mail(host: Host) -> None:
    assert host.run("ls /var/lib/drumline-mail-catcher/new").rc == 0
    assert host.run("runuser -u nobody -- ls /var/lib/drumline-mail-catcher/new").rc != 0


def test_its_sandbox_is_tight(host: Host) -> None:
    assert host.run(f"systemd-analyze security --threshold=20 {UNITS[0]}").rc == 0
