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


def tasks_from(play: dict[str, Any]) -> list[tuple[str, str]]:
    """The roles of which a play imports other tasks than main, with those."""
    imports = [task.get("ansible.builtin.import_role", {}) for task in play.get("tasks", [])]
    return [(role["name"], role["tasks_from"]) for role in imports if "tasks_from" in role]


def test_a_host_that_has_left_group_web_loses_the_site_before_the_certificate_that_it_names() -> None:
    [left] = [play for play in plays("site.yml") if play.get("hosts") == "all:!web"]

    assert tasks_from(left)[-2:] == [("nginx", "remove"), ("tls", "forget")]
    assert left["tasks"][-1]["tags"] == ["tls"]


def test_a_cache_is_removed_after_the_switch_and_not_while_a_process_uses_it() -> None:
    site = plays("site.yml")
    switch = next(number for number, play in enumerate(site) if "deploy_switch.yml" in play.values())
    [removal] = [number for number, play in enumerate(site) if ("redis_cache", "remove") in tasks_from(play)]

    assert removal > switch
    [task] = site[removal]["tasks"]
    assert "redis_cache" in site[removal]["tags"]
    assert "fleet_is_whole and fleet_drains | length == 0" in task["when"]
