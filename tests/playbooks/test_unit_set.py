"""A unit is restarted when it runs something older than what is on the disk, and otherwise left alone."""

from __future__ import annotations

import importlib.util
import os
import time
from pathlib import Path

import pytest

from tests.rendering import ANSIBLE

_spec = importlib.util.spec_from_file_location("unit_set", ANSIBLE / "plugins" / "modules" / "unit_set.py")
assert _spec
assert _spec.loader
unit_set = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(unit_set)

HOUR = 3600


def touched(path: Path, seconds_ago: float) -> None:
    moment = time.time() - seconds_ago
    os.utime(path, (moment, moment), follow_symlinks=False)


@pytest.fixture
def unit(tmp_path: Path) -> dict[str, str]:
    """A service that was started half an hour ago from files that are an hour old."""
    for name in ("web.service", "10-queue.conf", "app.env"):
        (tmp_path / name).write_text("")
        touched(tmp_path / name, HOUR)
    (tmp_path / "release").mkdir()
    (tmp_path / "current").symlink_to("release")
    touched(tmp_path / "current", HOUR)
    started = time.clock_gettime(time.CLOCK_MONOTONIC) - HOUR / 2
    return {
        "ActiveState": "active",
        "FragmentPath": str(tmp_path / "web.service"),
        "DropInPaths": str(tmp_path / "10-queue.conf"),
        "EnvironmentFiles": f"{tmp_path / 'app.env'} (ignore_errors=no)",
        "WorkingDirectory": str(tmp_path / "current"),
        "ExecMainStartTimestampMonotonic": str(int(started * 1e6)),
        "ActiveEnterTimestampMonotonic": str(int(started * 1e6)),
    }


def test_a_unit_that_runs_what_is_on_the_disk_is_left_alone(unit: dict[str, str]) -> None:
    assert unit_set._stale(unit) is None


@pytest.mark.parametrize("name", ["web.service", "10-queue.conf", "app.env", "current"])
def test_a_unit_whose_file_or_release_is_newer_is_restarted_and_the_reason_names_it(
    tmp_path: Path, unit: dict[str, str], name: str
) -> None:
    touched(tmp_path / name, 1)

    assert unit_set._stale(unit) == f"{tmp_path / name} is newer"


def test_a_working_directory_that_is_no_link_changes_without_a_restart(tmp_path: Path, unit: dict[str, str]) -> None:
    unit["WorkingDirectory"] = str(tmp_path / "release")
    touched(tmp_path / "release", 1)

    assert unit_set._stale(unit) is None


@pytest.mark.parametrize("state", ["inactive", "failed", "activating"])
def test_a_unit_that_does_not_run_is_started(unit: dict[str, str], state: str) -> None:
    assert unit_set._stale(unit | {"ActiveState": state}) == state
