"""What the inventory no longer asks for is removed from a host that has it, and from no other."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.paths import ANSIBLE
from tests.support.rendering import Playbooks

# Each call is written down; `stop` fails as long as there is a file `broken`.
SYSTEMCTL = """#!/bin/sh
case $1 in
is-enabled) echo enabled ;;
show) printf 'LoadState=loaded\\nActiveState=active\\nUnitFileState=enabled\\n' ;;
*) echo "$*" >>{folder}/calls ;;
esac
[ "$1" != stop ] || [ ! -e {folder}/broken ]
"""


class Machine:
    """This machine as a host: a role's tasks run on paths below a folder, with a stub of systemctl."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "bin").mkdir()
        (folder / "bin" / "systemctl").write_text(SYSTEMCTL.format(folder=folder))
        (folder / "bin" / "systemctl").chmod(0o755)

    def run(self, role: str, tasks: str, *arguments: str, **variables: Any) -> subprocess.CompletedProcess[str]:
        step = {"name": "Run", "ansible.builtin.import_role": {"name": role, "tasks_from": tasks}, "vars": variables}
        playbook = self.folder / "playbook.yml"
        playbook.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": [step]}]))
        line = ["ansible-playbook", "--inventory=here,", "--connection=local", *arguments]
        path = f"{self.folder / 'bin'}:{os.environ['PATH']}"
        return subprocess.run(
            [*line, playbook],
            cwd=ANSIBLE,
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"ANSIBLE_CONFIG": str(ANSIBLE / "ansible.cfg"), "PATH": path},
        )

    def calls(self) -> list[str]:
        """The calls of systemctl that change something."""
        calls = self.folder / "calls"
        return calls.read_text().splitlines() if calls.exists() else []


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture
def cache(tmp_path: Path) -> dict[str, Any]:
    """Where a cache's files are, in place of those of the role."""
    (tmp_path / "etc").mkdir()
    return {
        "__redis_cache_owned": [
            str(tmp_path / "etc" / name) for name in ("redis-cache.conf", "cache.acl", "cache.key")
        ],
        "__redis_cache_data": str(tmp_path / "data"),
    }


def test_a_cache_that_is_no_longer_asked_for_is_stopped_and_its_files_are_deleted(
    machine: Machine, cache: dict[str, Any], tmp_path: Path
) -> None:
    for path in [*cache["__redis_cache_owned"], tmp_path / "etc" / "broker.acl"]:
        Path(path).write_text("")
    (tmp_path / "data").mkdir()
    (tmp_path / "broken").touch()

    failed = machine.run("redis_cache", "remove", **cache)
    assert failed.returncode != 0
    assert machine.calls()[-1] == "stop redis-server@cache"
    assert all(Path(path).exists() for path in cache["__redis_cache_owned"]), "the next run would not stop the cache"

    (tmp_path / "broken").unlink()
    ran = machine.run("redis_cache", "remove", **cache)

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert {"stop redis-server@cache", "disable redis-server@cache"} <= {*machine.calls()}
    assert [path.name for path in (tmp_path / "etc").iterdir()] == ["broker.acl"]
    assert not (tmp_path / "data").exists()


def test_a_host_that_never_had_a_cache_is_only_looked_at(machine: Machine, cache: dict[str, Any]) -> None:
    ran = machine.run("redis_cache", "remove", **cache)

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "ok=1    changed=0" in ran.stdout, ran.stdout
    assert machine.calls() == []


def test_the_removal_of_a_cache_knows_every_file_that_the_role_writes(playbooks: Playbooks) -> None:
    tasks = yaml.safe_load((ANSIBLE / "roles/redis_cache/tasks/main.yml").read_text())
    [sets] = [task["vars"].values() for task in tasks if "file_set" in task]

    assert {file["path"] for files in sets for file in files} == {
        *playbooks.value("redis_cache", "__redis_cache_owned")
    }


def test_a_host_that_has_left_group_web_keeps_no_key_of_the_site(machine: Machine, tmp_path: Path) -> None:
    for name in ("site.crt", "site.key", "fleet.key"):
        (tmp_path / name).write_text("")

    ran = machine.run("tls", "forget", tls_directory=str(tmp_path))

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert not {"site.crt", "site.key"} & {path.name for path in tmp_path.iterdir()}
    assert (tmp_path / "fleet.key").exists()
    assert "changed=0" in machine.run("tls", "forget", tls_directory=str(tmp_path)).stdout


def test_sshd_that_is_not_to_be_hardened_any_more_is_as_the_distribution_has_it(
    machine: Machine, tmp_path: Path
) -> None:
    file = tmp_path / "10-drumline.conf"
    file.write_text("PasswordAuthentication no\n")
    softened = {"base_sshd_hardening": False, "__base_sshd": str(file)}

    ran = machine.run("base", "sshd", **softened)

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert not file.exists()
    assert machine.calls() == ["reload ssh"]
    again = machine.run("base", "sshd", **softened)
    assert "changed=0" in again.stdout, again.stdout
    assert machine.calls() == ["reload ssh"]


def test_sshd_that_is_hardened_gets_its_drop_in_and_loads_it(machine: Machine, tmp_path: Path) -> None:
    file = tmp_path / "10-drumline.conf"

    ran = machine.run("base", "sshd", "--check", "--diff", base_sshd_hardening=True, __base_sshd=str(file))

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "+PasswordAuthentication no" in ran.stdout
    assert "Reload sshd" in ran.stdout


def test_the_role_runs_its_sshd_tasks_also_where_sshd_is_not_to_be_hardened() -> None:
    tasks = yaml.safe_load((ANSIBLE / "roles/base/tasks/main.yml").read_text())

    [sshd] = [task for task in tasks if task.get("ansible.builtin.import_tasks") == "sshd.yml"]
    assert "when" not in sshd
