"""The broker's Redis instance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from testinfra.host import Host

UNITS = ["redis-server@broker.service"]


def test_the_broker_runs_and_starts_with_the_host(host: Host) -> None:
    assert host.service("redis-server@broker").is_running
    assert host.service("redis-server@broker").is_enabled


def test_the_stock_instance_is_gone_for_good(host: Host) -> None:
    assert not host.service("redis-server").is_running
    assert host.service("redis-server").is_masked


def test_a_client_without_a_password_gets_nothing(host: Host) -> None:
    assert "NOAUTH" in host.run("redis-cli -p 6379 ping").stdout


def test_the_default_user_is_off(host: Host) -> None:
    assert "WRONGPASS" in host.run("redis-cli -p 6379 auth default anything").stdout


def test_the_broker_listens_on_the_loopback_alone(host: Host) -> None:
    listening = [line.split()[3] for line in host.check_output("ss -Hltn sport = :6379").splitlines()]
    assert listening
    assert all(at.startswith(("127.", "[::1]")) for at in listening)


@pytest.mark.parametrize("path", ["/etc/redis/redis-broker.conf", "/etc/redis/broker.acl"])
def test_nobody_else_reads_the_configuration(host: Host, path: str) -> None:
    assert host.run(f"runuser -u nobody -- cat {path}").rc != 0
