"""The table of faults: what was done, what must hold, what came of it here and with stock Celery.

    make faults                    every row in full size, stock Celery beside it
    make faults ONLY=redis         the rows whose name holds the word

Without --full the sizes are small, and some rows and stock Celery are left out: `make test` runs them so.
"""

from __future__ import annotations

import itertools
import json
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.rig import Fleet, Mode
from tests.integration.conftest import cluster, migrated

__all__ = ["cluster", "migrated"]

# They look at a host; Molecule names them with the host.
collect_ignore = ["test_killed_process.py", "test_reboot.py", "test_restart_under_load.py"]

REPORT = Path(__file__).resolve().parents[2] / "build" / "faults.json"
ROWS = pytest.StashKey[list[dict[str, Any]]]()
numbers = itertools.count(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="faults in full size, with stock Celery beside them")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[ROWS] = []


class Row:
    """One row of the table; the test says what holds."""

    def __init__(self, rows: list[dict[str, Any]], *, full: bool) -> None:
        self._rows = rows
        self._begun = time.monotonic()
        self.full = full
        self.row: dict[str, Any] = {"what": "", "must": "", "got": "", "stock": "", "holds": False}

    def says(self, what: str, must: str) -> None:
        self.row.update(what=what, must=must)
        self._rows.append(self.row)

    def stock(self, run: Callable[[], str]) -> None:
        """Run the same on stock Celery, in full size only; nothing is asked of it."""
        if self.full:
            self.row["stock"] = run()

    def got(self, told: str) -> None:
        self.row["got"] = told

    def end(self, *, holds: bool) -> None:
        self.row.update(holds=holds, seconds=round(time.monotonic() - self._begun, 1))


@pytest.fixture
def full(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("full", default=False))


@pytest.fixture
def only_full(full: bool) -> None:  # noqa: FBT001
    """Leave the row out of the selection."""
    if not full:
        pytest.skip("only in full size: make faults")


@pytest.fixture
def fault_row(request: pytest.FixtureRequest, full: bool) -> Iterator[Row]:  # noqa: FBT001
    row = Row(request.config.stash[ROWS], full=full)
    yield row
    report = request.node.stash.get(CALL, None)
    row.row["name"] = request.node.name
    row.end(holds=bool(report and report.passed))


CALL = pytest.StashKey[pytest.TestReport]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    if report.when == "call":
        item.stash[CALL] = report
    return report


@pytest.fixture
def fleet(cluster: Any, migrated: str) -> Callable[..., Fleet]:
    """Return what makes a fleet on a database of its own; its context starts broker and relay."""

    def make(mode: Mode, **options: Any) -> Fleet:
        name = f"fault{next(numbers)}"
        cluster.execute("postgres", f"CREATE DATABASE {name} TEMPLATE {migrated}")
        return Fleet(mode, cluster=cluster, database=name, **options)

    return make


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    rows = config.stash[ROWS]
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
            terminalreporter.write_line(f"{'holds' if row['holds'] else 'DOES NOT HOLD'}, {row.get('seconds', 0)} s")
        terminalreporter.write_line("")
