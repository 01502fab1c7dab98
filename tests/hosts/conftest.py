"""Tests of hosts, over ssh, that only look: what systemd, the sockets and HTTP say, never what a file says.

Run by Molecule, or on the host of `make up`:

    pytest tests/hosts --hosts=ssh://drumline-local --ssh-config=build/ssh/config --sudo
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from testinfra.host import Host

PROJECT = Path(__file__).resolve().parents[2]
TESTHOST = PROJECT / "tests" / "images" / "testhost.py"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--secrets",
        default=str(PROJECT / "ansible" / "inventories" / "local" / "secrets"),
        help="folder of the inventory that holds its certificate authority (ca.crt)",
    )


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
    return report


def testhost(*arguments: str) -> Any:
    """What the test host tool says, None where the host is no test host of this machine."""
    command = [sys.executable, str(TESTHOST), *arguments, "--json"]
    result = subprocess.run(command, check=False, capture_output=True, text=True)
    return json.loads(result.stdout) if result.returncode == 0 else None


@pytest.fixture(scope="module")
def name(host: Host) -> str:
    return str(host.backend.host.name)


@pytest.fixture(scope="module")
def address(name: str) -> str:
    """Where the host's own ports are, which may be published elsewhere."""
    told = testhost("list", name)
    return str(told[0]["address"]) if told else name


@pytest.fixture(scope="session")
def ca(request: pytest.FixtureRequest) -> Path:
    return Path(request.config.getoption("--secrets")) / "ca.crt"


@pytest.fixture(scope="session")
def model() -> dict[str, Any]:
    """The process model as it is shipped; the scenarios change nothing in it."""
    loaded: dict[str, Any] = yaml.safe_load((PROJECT / "ansible/group_vars/all/processes.yml").read_text())
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
