"""The broker's Redis instance."""

from __future__ import annotations

import re
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


# A second server with the broker's users, as the host's own processes need theirs.
RESTARTED = """
set -e
folder=$(mktemp --directory) && cd "$folder"
begin() {{
    redis-server --port 0 --unixsocket "$folder/socket" --dir "$folder" --appendonly yes --save '' \
        --aclfile /etc/redis/broker.acl --daemonize yes --pidfile "$folder/pid" --logfile "$folder/log"
    timeout 10 sh -c 'until redis-cli -s socket ping 2>&1 | grep -q NOAUTH; do sleep 0.1; done'
}}
end() {{
    pid=$(cat pid) && kill "$pid"
    timeout 10 sh -c "while kill -0 $pid 2>/dev/null; do sleep 0.1; done"
}}
export REDISCLI_AUTH='{password}'
begin
printf 'MULTI\\nLPUSH kept one\\nLPUSH kept two\\nEXEC\\n' | redis-cli -s socket --user app >/dev/null
end
begin
redis-cli -s socket --user app llen kept
end
rm -r "$folder"
"""


def test_a_restarted_broker_has_what_was_written_in_a_transaction(host: Host, passwords: dict[str, str]) -> None:
    assert host.check_output(RESTARTED.format(password=passwords["app"])) == "2"


@pytest.mark.parametrize("path", ["/etc/redis/redis-broker.conf", "/etc/redis/broker.acl"])
def test_nobody_else_reads_the_configuration(host: Host, path: str) -> None:
    assert host.run(f"runuser -u nobody -- cat {path}").rc != 0


@pytest.fixture(scope="module")
def passwords(host: Host) -> dict[str, str]:
    """Of the host's own services, or of the scenario redis, whose host has no services."""
    found = {}
    for user, file, fallback in (
        ("app", "/opt/drumline/current/secrets.env", "of-the-application-00"),
        ("flower", "/etc/drumline/flower.env", "of-flower-000000"),
    ):
        told = re.search(rf"redis://{user}:([^@]+)@", host.run(f"cat {file}").stdout)
        found[user] = told.group(1) if told else fallback
    return found


@pytest.mark.parametrize("user", ["app", "flower"])
def test_each_service_gets_in_with_its_own_password(host: Host, passwords: dict[str, str], user: str) -> None:
    assert host.check_output(f"REDISCLI_AUTH='{passwords[user]}' redis-cli --user {user} ping") == "PONG"


@pytest.mark.parametrize("user", ["app", "flower"])
@pytest.mark.parametrize("command", ["config get dir", "keys nothing*", "acl list", "client list"])
def test_no_service_administers_the_broker(host: Host, passwords: dict[str, str], user: str, command: str) -> None:
    answer = host.run(f"REDISCLI_AUTH='{passwords[user]}' redis-cli --user {user} {command}").stdout
    assert "NOPERM" in answer


def test_flower_reads_the_length_of_a_queue(host: Host, passwords: dict[str, str]) -> None:
    answer = host.check_output(f"REDISCLI_AUTH='{passwords['flower']}' redis-cli --user flower llen low")
    assert answer.isdigit()


@pytest.mark.parametrize("command", ["lrange low 0 0", "lpush low-nobody-reads x", "get celery-task-meta-x"])
def test_flower_neither_reads_a_message_nor_adds_one(host: Host, passwords: dict[str, str], command: str) -> None:
    answer = host.run(f"REDISCLI_AUTH='{passwords['flower']}' redis-cli --user flower {command}").stdout
    assert "NOPERM" in answer


def test_a_killed_broker_comes_back(host: Host) -> None:
    assert host.check_output("systemctl show --value --property=Restart redis-server@broker") == "always"
