"""What the code of a worker can reach, serve, write and run: a program in a worker's place tries it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from testinfra.host import Host

UNITS = ["drumline-worker@probe", "drumline-firewall"]
METADATA = "169.254.169.254"
PROBE = "drumline-worker@probe.service"
DROP_IN = f"/run/systemd/system/{PROBE}.d/99-probe.conf"
PROGRAM = "/opt/drumline/shared/probe.py"

# The unit of a worker with all its drop-ins, and another program in it.
INSTEAD = f"""
[Unit]
AssertPathExists=
[Service]
Type=oneshot
WatchdogSec=0
Restart=no
EnvironmentFile=
ExecStart=
ExecStart=/opt/drumline/current/.venv/bin/python {PROGRAM} {{address}}
ExecStop=
"""
TRIES = r"""
import ctypes, json, os, shutil, socket, stat, subprocess, sys

def reaches(host, port):
    try:
        socket.create_connection((host, port), timeout=5).close()
    except OSError as error:
        return type(error).__name__
    return "yes"

def attempt(what):
    try:
        what()
    except OSError as error:
        return type(error).__name__
    return "yes"

def serve(family, address):
    with socket.socket(family) as server:
        server.bind(address)
        server.listen()

def run_copy(folder):
    path = os.path.join(folder, "probe-true")
    shutil.copy("/usr/bin/true", path)
    try:
        os.chmod(path, stat.S_IRWXU)
        subprocess.run([path], check=True)
    finally:
        os.unlink(path)

def run_from_memory():
    descriptor = os.memfd_create("probe")
    with open("/usr/bin/true", "rb") as program:
        os.write(descriptor, program.read())
    subprocess.run([f"/proc/self/fd/{descriptor}"], check=True, pass_fds=[descriptor])

own = sys.argv[1]
print(json.dumps({
    "connects to": {
        "metadata": reaches("169.254.169.254", 80),
        "ssh of the host": reaches(own, 22),
        "ssh on the loopback": reaches("127.0.0.1", 22),
        "a service on another port": reaches(own, 18081),
        "the database": reaches("127.0.0.1", 5432),
        "the broker": reaches("127.0.0.1", 6379),
        "the mail server": reaches("127.0.0.1", 1025),
        "the payment provider": reaches("127.0.0.1", 8102),
        "a site over HTTPS": reaches(own, 443),
    },
    "serves": {
        "every address": attempt(lambda: serve(socket.AF_INET, ("0.0.0.0", 18099))),
        "the loopback": attempt(lambda: serve(socket.AF_INET6, ("::1", 18099))),
        "a Unix socket": attempt(lambda: serve(socket.AF_UNIX, "/tmp/probe.sock")),
        "datagrams": attempt(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).bind(("0.0.0.0", 18099))),
    },
    "runs": {
        "a program of the system": attempt(lambda: subprocess.run(["/usr/bin/true"], check=True)),
        "one that it wrote to /tmp": attempt(lambda: run_copy("/tmp")),
        "one that it wrote to /var/tmp": attempt(lambda: run_copy("/var/tmp")),
        "one that it wrote to its own folder": attempt(lambda: run_copy("/var/lib/drumline")),
        "one that it wrote to /dev/shm": attempt(lambda: run_copy("/dev/shm")),
        "one that it wrote to memory": attempt(run_from_memory),
    },
}))
"""


@pytest.fixture(scope="module")
def own_address(host: Host) -> str:
    """The address that other hosts reach this one at."""
    return str(host.check_output("hostname -I").split()[0])


@pytest.fixture(scope="module")
def neighbours(host: Host, own_address: str) -> Iterator[None]:
    """A metadata service and an admin page that answer, as a cloud and a neighbour have them."""
    # nginx listens on port 80 of every address.
    host.check_output(f"ip address replace {METADATA}/32 dev lo")
    command = f"/usr/bin/python3 -m http.server 18081 --bind {own_address} --directory /usr/share/doc"
    host.check_output(f"systemd-run --quiet --collect --unit=probe-admin {command}")
    host.check_output("timeout 20 sh -c 'until ss -Hltn sport = :18081 | grep -q .; do sleep 0.2; done'")
    yield
    host.run("systemctl stop probe-admin")
    host.run(f"ip address delete {METADATA}/32 dev lo")


@pytest.fixture(scope="module")
def tried(host: Host, own_address: str, neighbours: None) -> Any:  # noqa: ARG001 - reached at
    """What a program in a worker's sandbox could do."""
    host.check_output("mkdir --parents $(dirname %s)", DROP_IN)
    host.check_output("printf %%s %s > %s", INSTEAD.format(address=own_address), DROP_IN)
    host.check_output("printf %%s %s > %s && chgrp drumline %s", TRIES, PROGRAM, PROGRAM)
    started = host.run(f"systemctl daemon-reload && systemctl start {PROBE}")
    said = host.check_output(f"journalctl --unit={PROBE} --output=cat --since=-2min")
    host.run(f"rm -r $(dirname {DROP_IN}) {PROGRAM}; systemctl daemon-reload; systemctl reset-failed {PROBE}")
    assert started.rc == 0, said
    return json.loads(next(line for line in reversed(said.splitlines()) if line.startswith("{")))


def test_a_worker_reaches_what_the_contract_lists_and_never_credentials_or_ssh(tried: Any) -> None:
    reached = {to for to, answer in tried["connects to"].items() if answer == "yes"}
    assert reached == {
        "the database",
        "the broker",
        "the mail server",
        "the payment provider",
        "a site over HTTPS",
    }, tried["connects to"]


def test_a_refused_connection_fails_at_once_instead_of_waiting(tried: Any) -> None:
    assert "TimeoutError" not in tried["connects to"].values()


def test_a_worker_serves_nobody(tried: Any) -> None:
    assert set(tried["serves"].values()) == {"PermissionError"}, tried["serves"]


def test_a_worker_runs_nothing_that_it_wrote(tried: Any) -> None:
    runs = {what for what, answer in tried["runs"].items() if answer == "yes"}
    assert runs == {"a program of the system"}, tried["runs"]


@pytest.mark.usefixtures("neighbours")
def test_flower_reaches_the_broker_and_nothing_else(host: Host, own_address: str) -> None:
    for address, port, reached in (
        ("127.0.0.1", 6379, True),
        ("127.0.0.1", 5432, False),
        (own_address, 443, False),
        (own_address, 22, False),
        (METADATA, 80, False),
    ):
        code = f"import socket; socket.create_connection(('{address}', {port}), timeout=5)"
        answer = host.run(f'runuser -u drumline-flower -- python3 -c "{code}"')
        assert (answer.rc == 0) == reached, f"{address}:{port}: {answer.stderr}"


@pytest.mark.usefixtures("neighbours")
def test_the_administrators_are_not_bound_by_what_binds_the_application(host: Host) -> None:
    code = f"import socket; socket.create_connection(('{METADATA}', 80), timeout=5)"
    assert host.run(f'python3 -c "{code}"').rc == 0


@pytest.mark.parametrize("process", ["worker@high-1", "worker@low-2", "beat", "relay"])
def test_systemd_lets_a_process_that_only_calls_bind_nothing(host: Host, process: str) -> None:
    assert host.check_output(f"systemctl show -P SocketBindDeny drumline-{process}.service") == "any"


def test_systemd_refuses_the_metadata_address_to_every_process(host: Host) -> None:
    listed = host.check_output("systemctl list-units --plain --no-legend 'drumline-worker@*' 'drumline-[bwr]*.service'")
    for unit in (line.split()[0] for line in listed.splitlines()):
        assert f"{METADATA}/32" in host.check_output(f"systemctl show -P IPAddressDeny {unit}").split(), unit
        assert "/" in host.check_output(f"systemctl show -P NoExecPaths {unit}").split(), unit
