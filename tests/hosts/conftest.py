"""Tests of hosts, over ssh, that only look: what systemd, the sockets and HTTP say, never what a file says.

Run by Molecule, or on the host of `make up`:

    pytest tests/hosts --hosts=ssh://drumline-local --ssh-config=build/ssh/config --sudo
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import testinfra
import yaml

from tests.support.on_host import groups_of, inventory_of, testhost
from tests.support.paths import ANSIBLE, TESTHOST

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from testinfra.host import Host


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--secrets",
        default=str(ANSIBLE / "inventories" / "local" / "secrets"),
        help="folder of the inventory that holds its certificate authority (ca.crt)",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What kills processes comes after what only looks, in whatever order Molecule names the files."""
    items.sort(key=lambda item: "faults" in item.path.parts)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failure without the journal sends its reader to a host that is gone by then."""
    report = yield
    host = getattr(item, "funcargs", {}).get("host")
    if report.failed and host is not None:
        units = getattr(getattr(item, "module", None), "UNITS", [])
        of_units = "".join(f" --unit='{unit}'" for unit in units)
        journal = host.run(f"journalctl --no-pager --boot --lines=60{of_units or ' --priority=warning'}")
        report.sections.append((f"journal of {' '.join(units) or 'the host, warnings'}", journal.stdout))
        if told := log(host, "*", lines=20):
            report.sections.append(("logs of supervisor's programs", told))
    return report


def log(host: Host, processes: str, *, lines: int = 500) -> str:
    """What processes have written under supervisor, by their names as a pattern; nothing where systemd runs them."""
    return str(host.run(f"tail --quiet --lines={lines} /var/log/drumline/{processes}.log").stdout)


@pytest.fixture(scope="session")
def members(pytestconfig: pytest.Config) -> Callable[..., list[Host]]:
    """Hosts of groups of the inventory, each once; `host` is one of those of group web."""
    groups = groups_of(inventory_of(pytestconfig))
    config = pytestconfig.getoption("ssh_config")

    def find(*names: str) -> list[Host]:
        found = dict.fromkeys(host for name in names for host in groups[name])
        return [testinfra.get_host(f"ssh://{host}", ssh_config=config, sudo=True) for host in found]

    return find


@pytest.fixture(scope="module")
def worker_log(members: Callable[..., list[Host]]) -> Callable[[str], str]:
    """What the workers of a queue have written lately, whatever runs them."""

    def read(queue: str) -> str:
        journal = f"journalctl --no-pager --unit='drumline-worker@{queue}-*' --since=-2min --output=cat"
        return "".join(host.run(journal).stdout + log(host, f"worker-{queue}-*") for host in members("worker"))

    return read


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: str


@pytest.fixture(scope="module")
def name(host: Host) -> str:
    return str(host.backend.host.name)


@pytest.fixture(scope="module")
def address(name: str) -> str:
    """Where the host's own ports are, which may be published elsewhere."""
    told = testhost("list", name)
    return str(told[0]["address"]) if told else name


class Site:
    """The site as a client of the machine that runs the tests sees it, trusting the private CA and no other."""

    def __init__(self, address: str, name: str, ca: Path) -> None:
        self.address = address
        self.name = name
        self.ca = ca

    def get(self, path: str, *, scheme: str = "https", **headers: str) -> Answer:
        """One request, no redirect followed. Header names are written with underscores."""
        return self.request(
            "GET", path, None, scheme, {name.replace("_", "-"): value for name, value in headers.items()}
        )

    def post(self, path: str, body: str) -> Answer:
        """Send JSON."""
        return self.request("POST", path, body, "https", {"Content-Type": "application/json"})

    def request(self, method: str, path: str, body: str | None, scheme: str, headers: dict[str, str]) -> Answer:
        connection: http.client.HTTPConnection
        if scheme == "https":
            connection = http.client.HTTPSConnection(self.name, timeout=20, context=self.context())
        else:
            connection = http.client.HTTPConnection(self.name, timeout=20)
        # The name is checked against the certificate, and need not be known to this machine.
        connection._create_connection = lambda _, *rest: socket.create_connection(  # type: ignore[attr-defined]
            (self.address, connection.port), *rest
        )
        with contextlib.closing(connection):
            # A refused body is answered before all of it is sent.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.request(method, path, body, headers)
            response = connection.getresponse()
            if response.status == http.HTTPStatus.SWITCHING_PROTOCOLS:
                return Answer(response.status, dict(response.getheaders()), "")
            return Answer(response.status, dict(response.getheaders()), response.read().decode(errors="replace"))

    def context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.ca))


@pytest.fixture(scope="module")
def site(request: pytest.FixtureRequest, address: str, name: str) -> Site:
    return Site(address, name, Path(request.config.getoption("--secrets")) / "ca.crt")


@pytest.fixture(scope="session")
def model() -> dict[str, Any]:
    """The process model as it is shipped; the scenarios change nothing in it."""
    loaded: dict[str, Any] = yaml.safe_load((ANSIBLE / "group_vars/all/processes.yml").read_text())
    return loaded


@pytest.fixture(scope="module")
def stranger(name: str) -> Iterator[dict[str, Any]]:
    """Another host on the same network, which the first one has no reason to trust."""
    told = testhost("list", name)
    if not told:
        pytest.skip(f"{name} is not a test host of this machine: nothing of ours stands beside it.")
    stranger = f"{name}-stranger"
    # The same release: its image is there already.
    up = testhost("up", stranger, f"--network={told[0]['networks'][0]}", f"--debian={told[0]['debian']}")
    assert up, f"the test host {stranger} did not come up: run `{TESTHOST} up {stranger}` to see why"
    yield up
    subprocess.run([sys.executable, str(TESTHOST), "down", stranger], check=True, capture_output=True)
