"""The check before a run knows the groups that the run is for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.support.paths import ANSIBLE

CHECK = "deploy_check.yml"


def plays(name: str) -> list[dict[str, Any]]:
    loaded: list[dict[str, Any]] = yaml.safe_load((ANSIBLE / name).read_text())
    return loaded


def groups_of(name: str) -> Iterator[str]:
    """Give the groups of a playbook's plays, and of those that it imports."""
    for play in plays(name):
        imported = play.get("ansible.builtin.import_playbook")
        if imported and imported != CHECK:
            yield from groups_of(imported)
        elif not imported:
            yield from play["hosts"].split(":")


@pytest.mark.parametrize("name", ["deploy.yml", "rollback.yml", "restart.yml", "drain.yml"])
def test_a_run_is_checked_for_the_groups_of_its_plays(name: str) -> None:
    [checked] = [play["vars"]["deploy_groups"] for play in plays(name) if CHECK in play.values()]

    assert {*checked} == {*groups_of(name)} - {"all", "localhost"}
