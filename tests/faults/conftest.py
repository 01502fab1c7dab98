"""The table of faults: what was done, what must hold, what came of it here and with stock Celery.

    make faults                    every row in full size, stock Celery beside it
    make faults ONLY=redis         the rows whose name holds the word

Without --full the sizes are small, and some rows and stock Celery are left out: `make test` runs them so.
"""

from __future__ import annotations

import itertools
import json
import textwrap
from collections.abc import Callable
from typing import Any

import pytest

from tests.faults.rig import Mode, System
from tests.support.cluster import cluster, migrated
from tests.support.paths import PROJECT

__all__ = ["cluster", "migrated"]

# They look at a host; Molecule names them with the host.
collect_ignore = [
    "test_background_drain.py",
    "test_bad_releases.py",
    "test_deploy_under_load.py",
    "test_killed_controller.py",
    "test_killed_process.py",
    "test_reboot.py",
    "test_releases_under_load.py",
    "test_restart_under_load.py",
    "test_rollback.py",
    "test_rotation.py",
    "test_upkeep.py",
]

REPORT = PROJECT / "build" / "faults.json"
# The property of a test's report that carries its row; it also comes from another process.
FAULT = "fault"
numbers = itertools.count(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="faults in full size, with stock Celery beside them")


class Row:
    """One row of the table; whether its test passes says whether it holds."""

    def __init__(self, properties: list[tuple[str, object]], *, full: bool) -> None:
        self._properties = properties
        self.full = full
        self.row = {"what": "", "must": "", "got": "", "stock": ""}

    def says(self, what: str, must: str) -> None:
        self.row.update(what=what, must=must)
        self._properties.append((FAULT, self.row))

    def stock(self, run: Callable[[], str]) -> None:
        """Run the same on stock Celery, in full size only; nothing is asked of it."""
        if self.full:
            self.row["stock"] = run()

    def got(self, told: str) -> None:
        self.row["got"] = told


@pytest.fixture
def full(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("full", default=False))


@pytest.fixture
def only_full(full: bool) -> None:  # noqa: FBT001
    """Leave the row out of the selection."""
    if not full:
        pytest.skip("only in full size: make faults")


@pytest.fixture
def fault_row(request: pytest.FixtureRequest, full: bool) -> Row:  # noqa: FBT001
    return Row(request.node.user_properties, full=full)


@pytest.fixture
def system(cluster: Any, migrated: str, full: bool) -> Callable[..., System]:  # noqa: FBT001
    """Return what makes a system on a database of its own; its context starts broker and relay."""

    def make(mode: Mode, **options: Any) -> System:
        name = f"fault{next(numbers)}"
        cluster.execute("postgres", f"CREATE DATABASE {name} TEMPLATE {migrated}")
        # Small sizes leave the processors to what runs beside them.
        return System(mode, cluster=cluster, database=name, **{"pause": 0.05 if full else 0.2, **options})

    return make


def told(report: pytest.TestReport) -> list[dict[str, Any]]:
    """The row of a test that has run."""
    end = {"name": report.nodeid, "holds": report.passed, "seconds": round(report.duration, 1)}
    return [{**row, **end} for name, row in report.user_properties if name == FAULT]


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    reports = itertools.chain.from_iterable(terminalreporter.stats.values())
    calls = [report for report in reports if getattr(report, "when", "") == "call"]
    rows = [row for report in sorted(calls, key=lambda report: report.nodeid) for row in told(report)]
    if not rows:
        return
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text(
        json.dumps({"full": bool(config.getoption("full", default=False)), "rows": rows}, indent=2) + "\n"
    )
    widths = {"what": 40, "must": 34, "got": 44, "stock": 34}
    terminalreporter.section("faults")
    for row in [{name: name.upper() for name in widths} | {"must": "MUST HOLD"}, *rows]:
        cells = [textwrap.wrap(str(row[name]), width) or [""] for name, width in widths.items()]
        for line in itertools.zip_longest(*cells, fillvalue=""):
            text = " | ".join(cell.ljust(width) for cell, width in zip(line, widths.values(), strict=True))
            terminalreporter.write_line(text.rstrip())
        if "holds" in row:
            terminalreporter.write_line(f"{'holds' if row['holds'] else 'DOES NOT HOLD'}, {row['seconds']} s")
        terminalreporter.write_line("")
