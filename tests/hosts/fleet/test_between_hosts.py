"""What crosses the network between the application's host and the one with its database and broker."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from testinfra.host import Host

UNITS = ["drumline-*"]
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
def data(name: str) -> str:
    """The host with the database and the broker."""
    return f"{name}-data"


@pytest.fixture(scope="module")
def addresses(host: Host) -> dict[str, Any]:
    """Where the application finds its database and its broker, with its passwords."""
    lines = host.check_output("cat /opt/drumline/current/secrets.env").splitlines()
    secrets = dict(line.split("=", 1) for line in lines)
    return {name: urlsplit(secrets[name].strip('"')) for name in ("DATABASE_URL", "CELERY_BROKER_URL")}


@pytest.fixture(scope="module")
def wire(host: Host, data: str, addresses: dict[str, Any]) -> dict[str, Any]:
    """What somebody between the two hosts reads while a task is sent, run and closed."""
    needles = [MARKER, "drumline.ping", "debug_task", "drumline_ledger", "BRPOP"]
    needles += [address.password for address in addresses.values()]
    listening = subprocess.Popen(
        # The host itself may not read its wire.
        ["podman", "exec", "--interactive", "--privileged", data, "python3", "-c", LISTEN, *needles],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert listening.stdout
    assert listening.stdout.readline() == "listening\n"
    host.check_output("drumline-manage enqueue debug_task %s --queue high --wait 30", json.dumps([MARKER]))
    host.check_output("drumline-manage enqueue drumline.ping --queue high --wait 30")
    printed, _ = listening.communicate("stop\n", timeout=60)
    read: dict[str, Any] = json.loads(printed)
    return read


def test_somebody_on_the_network_reads_no_password_no_task_and_no_statement(wire: dict[str, Any]) -> None:
    assert wire["bytes"]["5432"] > 1000, "the database was used over the network"
    assert wire["bytes"]["6379"] > 1000, "the broker was used over the network"
    assert wire["found"] == []


def test_every_session_of_the_application_in_the_database_is_encrypted(data: str) -> None:
    statement = (
        "select count(*), bool_and(ssl) from pg_stat_ssl join pg_stat_activity using (pid) "
        "where usename ~ '^drumline_[0-9a-f]{8}$'"
    )
    command = ["podman", "exec", data, "runuser", "-u", "postgres", "--", "psql", "--no-psqlrc", "-Atc", statement]
    said = subprocess.run(command, check=True, capture_output=True, text=True)
    count, encrypted = said.stdout.strip().split("|")
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


def test_the_key_of_a_server_is_readable_for_its_service_alone(data: str) -> None:
    for path in ("/etc/redis/broker.key", "/etc/postgresql/*/main/drumline.key"):
        command = ["podman", "exec", data, "sh", "-c", f"stat --format='%U %a' {path}"]
        said = subprocess.run(command, check=True, capture_output=True, text=True)
        assert said.stdout.split() == ["root", "640"]


def test_each_host_looks_daily_when_its_certificates_and_the_authoritys_end(host: Host, data: str) -> None:
    look = (
        "systemctl is-enabled drumline-certificate.timer && systemctl start drumline-certificate.service && "
        "journalctl --no-pager --output=cat --unit=drumline-certificate.service --since=-1min"
    )
    command = ["podman", "exec", data, "sh", "-c", look]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    for name in ("the database", "the broker", "the private authority"):
        assert f"The certificate of {name} expires in " in said, said
    said = host.check_output(look)
    for name in ("the site", "the private authority"):
        assert f"The certificate of {name} expires in " in said, said
