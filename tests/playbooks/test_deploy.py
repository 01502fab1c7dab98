"""The order of a deploy: everything is checked before anything that runs is touched, and what failed is taken back."""

from __future__ import annotations

import functools
import os
import subprocess
from typing import TYPE_CHECKING

import yaml

from tests.support.paths import ANSIBLE
from tests.support.rendering import Playbooks

if TYPE_CHECKING:
    from pathlib import Path


@functools.cache
def steps(*options: str) -> list[str]:
    """The tasks that site.yml would run, in their order."""
    listed = subprocess.run(
        ["ansible-playbook", "--list-tasks", "--inventory=inventories/local/hosts.yml", *options, "site.yml"],
        cwd=ANSIBLE,
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"ANSIBLE_CONFIG": str(ANSIBLE / "ansible.cfg")},
    )
    lines = [line.partition("TAGS:")[0].strip() for line in listed.stdout.splitlines()]
    return [line.rpartition(" : ")[2] for line in lines]


def test_no_process_sees_the_new_environment_before_the_release_has_passed_its_checks_and_migrations() -> None:
    order = steps()

    touched = order.index("Activate the environment")
    for before in (
        "Collect the static files",
        "Check the settings and the process model",
        "Run the release's commands",
    ):
        assert order.index(before) < touched, before
    for after in ("Activate the secrets", "Make the release current", "Check that the site answers on its host"):
        assert order.index(after) > touched, after


def test_a_change_of_the_processes_alone_is_checked_as_well() -> None:
    order = steps("--tags=app_services")

    changed = order.index("Write units and environments")
    assert order.index("Check the settings and the process model") < changed
    checks = Playbooks("local").value("app_release", "app_release_checks")
    assert ["drumline_check", "--serve=high,default,low"] in checks
    check, *_ = yaml.safe_load((ANSIBLE / "roles/app_release/tasks/check.yml").read_text())
    assert check["when"] == "not ansible_check_mode", "the check must not depend on whether the release is new"


def test_passwords_before_are_refused_once_every_process_was_seen_to_run_with_the_present_ones() -> None:
    order = steps()

    for former, present in (
        ("Disable their roles", "Create the login role"),
        ("Revoke the previous passwords", "Write the broker's users"),
    ):
        assert order.index(present) < order.index("Check the settings and the process model"), present
        assert order.index(former) > order.index("Check that every instance ran its task"), former


def test_a_part_of_the_site_refuses_no_password() -> None:
    """It may leave processes that have not got the present ones. What no tag runs among others, it does not run alone."""
    assert "Revoke the previous passwords" not in steps("--tags=app_release,app_services,postgresql,redis,flower")


def test_every_worker_of_the_model_is_asked_for_a_task_after_the_switch() -> None:
    asked = Playbooks("local", ansible_facts={"hostname": "app1"}).value("verify", "verify_instances")

    assert {"high-1@app1", "high-2@app1", "low-2@app1"} <= set(asked)


WARN = """
- hosts: all
  gather_facts: false
  connection: local
  tasks:
    - ansible.builtin.set_fact:
        __app_release_checks: {results: [{stdout_lines: []}, {stdout_lines: ["note: x", "migration: shop.0002 removes it"]}]}
        __app_release_current: {stat: {lnk_source: /opt/drumline/releases/0a1b}}
      when: inventory_hostname != 'database'
    - ansible.builtin.import_role: {name: app_release, tasks_from: warn}
"""


def test_migrations_that_the_running_release_cannot_live_with_are_told_once_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "play.yml").write_text(WARN)

    ran = subprocess.run(
        ["ansible-playbook", "--inventory=database,web,worker,", str(tmp_path / "play.yml")],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"ANSIBLE_CONFIG": str(ANSIBLE / "ansible.cfg"), "ANSIBLE_STRATEGY": "linear"},
    )

    assert ran.returncode == 0, ran.stdout
    assert ran.stdout.count("The release 0a1b cannot live with these migrations:") == 1, ran.stdout
    assert "shop.0002 removes it" in ran.stdout
    assert "docs/upgrading.md#write-migrations-and-tasks-that-allow-it" in ran.stdout


def test_a_release_is_rejected_for_them_when_the_inventory_says_so() -> None:
    tasks = yaml.safe_load((ANSIBLE / "roles/app_release/tasks/check.yml").read_text())
    refuse = next(task for task in tasks if task["name"].startswith("Refuse migrations"))
    checks = {"results": [{"stdout_lines": ["migration: shop.0002 removes it"]}]}

    def refused(choice: str) -> bool:
        inventory = Playbooks("local", app_breaking_migrations=choice, __app_release_checks=checks)
        return bool(inventory.value("app_release", refuse["when"]))

    assert refused("refuse")
    assert not refused("warn")
