"""What crosses the network between the application's hosts and those of its database and its broker."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from tests.support.on_host import testhost
from tests.support.paths import TESTHOST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from testinfra.host import Host

UNITS = ["drumline-*"]
SCAN = (Path(__file__).parents[1] / "scan.py").read_text()
MARKER = "a-marker-that-nobody-may-read"
PYTHON = "/opt/drumline/current/.venv/bin/python"
PLAIN_REDIS = """
import socket
connection = socket.create_connection(("{host}", 6379), timeout=10)
connection.sendall(b"PING\\r\\n")
print(connection.recv(100))
"""
PLAIN_POSTGRESQL = """
import psycopg
print(psycopg.connect("{url}", sslmode="disable", sslrootcert="", connect_timeout=10))
"""

LISTEN = r"""
import json, select, socket, struct, sys

def payload(frame):
    if frame[12:14] != b"\x08\x00":
        return None
    header = 14 + (frame[14] & 15) * 4
    if frame[23] != 6:
        return None
    source, destination = struct.unpack("!HH", frame[header:header + 4])
    end = 14 + struct.unpack("!H", frame[16:18])[0]
    return source, destination, frame[header + (frame[header + 12] >> 4) * 4:end]

wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
print("listening", flush=True)
flows = {}
while True:
    ready, _, _ = select.select([wire, sys.stdin], [], [], 120)
    if not ready or sys.stdin in ready:
        break
    frame, (interface, *_) = wire.recvfrom(65535)
    said = payload(frame) if interface != "lo" else None
    if said and {said[0], said[1]} & {5432, 6379}:
        flows.setdefault(said[:2], bytearray()).extend(said[2])
everything = b"\n".join(flows.values())
sizes = {port: sum(len(data) for ports, data in flows.items() if port in ports) for port in (5432, 6379)}
print(json.dumps({"bytes": sizes, "found": [needle for needle in sys.argv[1:] if needle.encode() in everything]}))
"""


@pytest.fixture(scope="module")
def addresses(host: Host) -> dict[str, Any]:
    """Where the application finds its database and its broker, with its passwords."""
    lines = host.check_output("cat /opt/drumline/current/secrets.env").splitlines()
    secrets = dict(line.split("=", 1) for line in lines)
    return {name: urlsplit(secrets[name].strip('"')) for name in ("DATABASE_URL", "CELERY_BROKER_URL")}


@pytest.fixture(scope="module")
def wire(host: Host, members: Callable[..., list[Host]], addresses: dict[str, Any]) -> dict[str, Any]:
    """What somebody beside the servers reads while a task is sent, run and closed."""
    needles = [MARKER, "drumline.ping", "debug_task", "drumline_ledger", "BRPOP"]
    needles += [address.password for address in addresses.values()]
    listeners = [
        subprocess.Popen(
            # The host itself may not read its wire.
            ["podman", "exec", "--interactive", "--privileged", server, "python3", "-c", LISTEN, *needles],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for server in (server.backend.host.name for server in members("redis", "postgresql"))
    ]
    for listener in listeners:
        assert listener.stdout
        assert listener.stdout.readline() == "listening\n"
    host.check_output("drumline-manage enqueue debug_task %s --queue high --wait 30", json.dumps([MARKER]))
    host.check_output("drumline-manage enqueue drumline.ping --queue high --wait 30")
    heard = [json.loads(listener.communicate("stop\n", timeout=60)[0]) for listener in listeners]
    return {
        "bytes": {port: sum(each["bytes"][port] for each in heard) for port in ("5432", "6379")},
        "found": [needle for each in heard for needle in each["found"]],
    }


def test_somebody_on_the_network_reads_no_password_no_task_and_no_statement(wire: dict[str, Any]) -> None:
    assert wire["bytes"]["5432"] > 1000, "the database was used over the network"
    assert wire["bytes"]["6379"] > 1000, "the broker was used over the network"
    assert wire["found"] == []


def test_every_session_of_the_application_in_the_database_is_encrypted(members: Callable[..., list[Host]]) -> None:
    statement = (
        "select count(*), bool_and(ssl) from pg_stat_ssl join pg_stat_activity using (pid) "
        "where usename ~ '^drumline_[0-9a-f]{8}$'"
    )
    (database,) = members("postgresql")
    said = database.check_output("runuser -u postgres -- psql --no-psqlrc -Atc %s", statement)
    count, encrypted = said.strip().split("|")
    assert int(count) > 0
    assert encrypted == "t"


def test_the_database_lets_nobody_in_over_plain_text(host: Host, addresses: dict[str, Any]) -> None:
    code = PLAIN_POSTGRESQL.format(url=addresses["DATABASE_URL"]._replace(query="").geturl())
    refused = host.run(f"{PYTHON} -c %s", code)
    assert refused.rc != 0
    assert "no encryption" in refused.stderr


def test_the_broker_answers_nobody_over_plain_text(host: Host, addresses: dict[str, Any]) -> None:
    answer = host.run(f"{PYTHON} -c %s", PLAIN_REDIS.format(host=addresses["CELERY_BROKER_URL"].hostname))
    assert "PONG" not in answer.stdout
    assert "NOAUTH" not in answer.stdout


@pytest.mark.parametrize(
    ("group", "path"), [("redis", "/etc/redis/broker.key"), ("postgresql", "/etc/postgresql/*/main/drumline.key")]
)
def test_the_key_of_a_server_is_readable_for_its_service_alone(
    members: Callable[..., list[Host]], group: str, path: str
) -> None:
    (server,) = members(group)
    assert server.check_output(f"stat --format='%U %a' {path}").split() == ["root", "640"]


@pytest.mark.parametrize(
    ("group", "shown"),
    [
        ("web", ["the site"]),
        ("worker", []),
        ("beat", []),
        ("redis", ["the broker"]),
        ("postgresql", ["the database"]),
    ],
)
def test_each_host_looks_daily_when_its_certificates_and_the_authoritys_end(
    members: Callable[..., list[Host]], group: str, shown: list[str]
) -> None:
    for each in members(group):
        said = each.check_output(
            "systemctl is-enabled drumline-certificate.timer && systemctl start drumline-certificate.service && "
            "journalctl --no-pager --output=cat --unit=drumline-certificate.service --since=-1min"
        )
        for name in (*shown, "the private authority"):
            assert f"The certificate of {name} expires in " in said, said


APPLICATION = ("web", "worker", "beat")
CARELESS = {80, 5432, 6379, 18080}


@pytest.fixture(scope="module")
def careless(members: Callable[..., list[Host]]) -> Iterator[None]:
    """Services that listen on every address of every host, as ones installed by hand might, where the ports are free."""
    hosts = members("all")
    for host in hosts:
        for port in CARELESS:
            command = f"/usr/bin/python3 -m http.server {port} --bind 0.0.0.0"
            host.check_output(
                f"ss -Hltn sport = :{port} | grep -q . || systemd-run --quiet --collect --unit=careless-{port} {command}"
            )
            host.check_output(f"timeout 10 sh -c 'until ss -Hltn sport = :{port} | grep -q .; do sleep 0.2; done'")
    yield
    for host in hosts:
        host.run("systemctl stop 'careless-*'")


@pytest.mark.usefixtures("careless")
def test_a_host_reaches_of_every_other_what_its_groups_need_and_no_other_port(
    members: Callable[..., list[Host]],
) -> None:
    """From each host to each other host, all 65,535 ports."""
    groups = {
        group: {host.backend.host.name for host in members(group)} for group in ("all", "web", "redis", "postgresql")
    }
    application = {host.backend.host.name for host in members(*APPLICATION)}
    addresses = {name: testhost("list", name)[0]["address"] for name in groups["all"]}

    def expected(source: str, target: str) -> set[int]:
        public = {22, 80, 443} if target in groups["web"] else {22}
        servers = {port for group, port in (("postgresql", 5432), ("redis", 6379)) if target in groups[group]}
        return public | (servers if source in application else set())

    def scans(source: str) -> dict[tuple[str, str], tuple[set[int], set[int]]]:
        found = {}
        for target in sorted(groups["all"] - {source}):
            command = [sys.executable, str(TESTHOST), "exec", source, "--", "python3", "-", addresses[target], "22"]
            ran = subprocess.run(command, check=False, input=SCAN, capture_output=True, text=True, timeout=300)
            assert ran.returncode == 0, f"from {source} to {target}: {ran.stderr}"
            answers = json.loads(ran.stdout)
            found[source, target] = (set(answers["open"]), set(answers["refused"]))
        return found

    with ThreadPoolExecutor() as pool:
        found = {pair: answers for each in pool.map(scans, sorted(groups["all"])) for pair, answers in each.items()}

    assert len(found) == len(groups["all"]) * (len(groups["all"]) - 1)
    wrong = {pair: answers for pair, answers in found.items() if answers != (expected(*pair), set())}
    assert wrong == {}
