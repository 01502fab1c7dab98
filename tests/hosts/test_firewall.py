"""What a stranger on the same network can reach."""

from __future__ import annotations

import contextlib
import json
import select
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.paths import TESTHOST

if TYPE_CHECKING:
    from collections.abc import Iterator

    from testinfra.host import Host

UNITS = ["drumline-firewall.service"]
PUBLIC = {22, 80, 443}
CARELESS_PORT = 18080


@pytest.fixture(scope="module")
def careless_service(host: Host) -> Iterator[int]:
    """A service that listens on every address, as one installed by hand might; gone with the test."""
    unit = "careless-service"
    command = f"/usr/bin/python3 -m http.server {CARELESS_PORT} --bind 0.0.0.0"
    host.check_output(f"systemd-run --quiet --collect --unit={unit} --property=DynamicUser=yes {command}")
    host.check_output(f"timeout 10 sh -c 'until ss -Hltn sport = :{CARELESS_PORT} | grep -q .; do sleep 0.2; done'")
    yield CARELESS_PORT
    host.run(f"systemctl stop {unit}")


@pytest.fixture(scope="module")
def listening(host: Host, careless_service: int) -> set[int]:
    """Ports that something on the host listens on, on more than the loopback."""
    ports = set()
    for line in host.check_output("ss -Hltn").splitlines():
        at, _, port = line.split()[3].rpartition(":")
        if not at.startswith(("127.", "[::1]")):
            ports.add(int(port))
    assert careless_service in ports
    return ports


@pytest.fixture(scope="module")
def answers(address: str, stranger: dict[str, Any], listening: set[int]) -> dict[str, set[int]]:
    # Connections to sshd are limited by the minute, so another port is the witness where there is one.
    witness = 443 if 443 in listening else 22
    command = [sys.executable, str(TESTHOST), "exec", stranger["name"], "--", "python3", "-", address, str(witness)]
    scan = (Path(__file__).parent / "scan.py").read_text()
    result = subprocess.run(command, check=False, input=scan, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    return {answer: set(ports) for answer, ports in json.loads(result.stdout).items()}


def test_a_stranger_reaches_ssh_and_the_site_and_no_other_port(
    answers: dict[str, set[int]], listening: set[int]
) -> None:
    assert answers["open"] == PUBLIC & listening


def test_a_closed_port_does_not_even_answer(answers: dict[str, set[int]]) -> None:
    assert answers["refused"] <= PUBLIC


def test_a_service_that_listens_everywhere_stays_unreachable(
    answers: dict[str, set[int]], careless_service: int
) -> None:
    assert careless_service not in answers["open"] | answers["refused"]


def test_one_address_cannot_hold_every_connection_of_the_site(host: Host, address: str, listening: set[int]) -> None:
    if 443 not in listening:
        pytest.skip("nothing listens behind the firewall here")
    limit, tried = 500, 540
    held = []
    try:
        for _ in range(tried):
            connection = socket.socket()
            connection.settimeout(0)
            with contextlib.suppress(BlockingIOError):
                connection.connect((address, 443))
            held.append(connection)
        deadline = time.monotonic() + 10
        established: set[socket.socket] = set()
        while len(established) < limit - 20 and time.monotonic() < deadline:
            _, writable, _ = select.select([], [other for other in held if other not in established], [], 0.5)
            established |= {each for each in writable if not each.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)}
        assert limit - 20 <= len(established) <= limit
        # Another client, here the host itself, is still answered.
        host.check_output("timeout 10 bash -c 'exec 3<>/dev/tcp/127.0.0.1/443'")
    finally:
        for connection in held:
            connection.close()


def test_the_rules_come_back_with_the_host(host: Host) -> None:
    assert host.service(UNITS[0]).is_running
    assert host.service(UNITS[0]).is_enabled


NEIGHBOUR = """
import socket, time

def client(number):
    client = socket.socket(socket.AF_INET6)
    # IPV6_FREEBIND, which Python has no name for: the addresses are routed to it, and given to no device.
    client.setsockopt(socket.IPPROTO_IPV6, 78, 1)
    client.bind((f"2001:db8:64:64::1:{number:x}", 0))
    client.settimeout(10)
    return client

# The first packets of a new link get lost, and are sent again.
client(1).connect(("2001:db8:64:64::1", 22))
clients = [client(number) for number in range(2, 132)]
for client in clients:
    client.setblocking(False)
    client.connect_ex(("2001:db8:64:64::1", 22))
"""
# Until sshd has given up the connections of those who did not log in: it refuses everybody beyond a number of them.
GIVEN_UP = r"""timeout 60 sh -c 'while pgrep --full "^sshd.*\[(accepted|net|preauth)\]"; do sleep 0.2; done'"""
DROPPED = "nft list chain inet drumline ssh | grep -Po 'ssh_clients_v6.*counter packets \\K[0-9]+'"


def test_one_neighbour_with_a_network_of_ipv6_addresses_is_limited_as_one_client(host: Host) -> None:
    """A network namespace on the host stands for a neighbour that has all addresses of its /64."""
    run = "ip netns exec neighbour"
    lines = [
        "ip netns add neighbour",
        "ip link add to-neighbour type veth peer name eth0 netns neighbour",
        "ip -6 addr add 2001:db8:64:64::1/64 dev to-neighbour nodad",
        "ip link set to-neighbour up",
        f"{run} ip link set eth0 up",
        f"{run} ip -6 addr add 2001:db8:64:64::2/64 dev eth0 nodad",
        f"{run} ip link set lo up",
        # Every address of ::1:0/112 is the neighbour's own.
        f"{run} ip -6 route add local 2001:db8:64:64::1:0/112 dev lo",
        "ip -6 route add 2001:db8:64:64::1:0/112 via 2001:db8:64:64::2 dev to-neighbour",
        f"{run} python3 -c '{NEIGHBOUR}'",
        "ip netns del neighbour",
        GIVEN_UP,
    ]
    before = int(host.check_output(DROPPED))
    try:
        host.check_output(" && ".join(lines))
    finally:
        host.run("ip netns del neighbour 2>&1")

    # 131 at once, of which 60 may be.
    assert int(host.check_output(DROPPED)) - before >= 60
