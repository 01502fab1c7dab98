"""Two deploys at once: the second is refused and learns who deploys, and since when."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.paths import ANSIBLE
from tests.support.rendering import Playbooks

ANN = {"who": "ann on desk", "machine": "desk 1", "process": "10@5", "running": ["10@5", "11@6"]}
BOB = {"who": "bob on lap", "machine": "lap 2", "process": "10@5", "running": ["10@5"]}


class Lock:
    """The lock of one host, as different controllers ask for it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def ask(self, holder: dict[str, Any], state: str = "held", reason: str = "") -> dict[str, Any]:
        arguments = {"path": str(self.path), "holder": holder, "state": state, "_ansible_tmpdir": str(self.path.parent)}
        arguments |= {"kept": str(self.path.with_name("locked.json")), "reason": reason}
        ran = subprocess.run(
            [sys.executable, str(ANSIBLE / "plugins/modules/deploy_lock.py")],
            input=json.dumps({"ANSIBLE_MODULE_ARGS": arguments}),
            capture_output=True,
            text=True,
            check=False,
        )
        answer: dict[str, Any] = json.loads(ran.stdout)
        return answer


@pytest.fixture
def lock(tmp_path: Path) -> Lock:
    return Lock(tmp_path / "lock.json")


def test_the_second_deploy_learns_who_was_first_and_since_when(lock: Lock) -> None:
    lock.ask(ANN)

    refused = lock.ask(BOB)

    assert refused["failed"] is True
    assert refused["msg"].startswith("ann on desk has been deploying to this host since 2")
    assert f"rm {lock.path}" in refused["msg"]


def test_a_person_locks_a_host_with_a_reason_and_only_a_person_opens_it(lock: Lock) -> None:
    assert lock.ask(ANN, "closed", "the database moves until noon")["changed"] is True
    assert lock.ask(ANN, "closed", "the database moves until noon")["changed"] is False
    found = lock.ask(BOB, "read")
    assert (found["closed"], found["reason"]) == (True, "the database moves until noon")

    refused = lock.ask(BOB)
    assert refused["failed"] is True
    assert refused["msg"].startswith("ann on desk has locked this host since 2")
    assert "the database moves until noon" in refused["msg"]
    assert lock.ask(BOB, "closed", "another reason")["failed"] is True
    assert lock.ask(BOB, "open", "drained")["changed"] is False, "a host is put back that was locked for another reason"

    assert lock.ask(BOB, "open")["changed"] is True
    assert "failed" not in lock.ask(BOB)


def test_a_second_deploy_of_the_same_machine_is_refused_as_well(lock: Lock) -> None:
    lock.ask(ANN)

    assert lock.ask(ANN | {"process": "11@6"})["failed"] is True


def test_a_deploy_that_has_the_lock_may_ask_again_and_frees_it_for_the_next(lock: Lock) -> None:
    lock.ask(ANN)
    assert "failed" not in lock.ask(ANN)
    lock.ask(BOB, "free")
    assert lock.ask(BOB)["failed"] is True

    lock.ask(ANN, "free")

    assert "failed" not in lock.ask(BOB)


def test_the_lock_of_a_deploy_that_was_killed_is_taken_over_on_its_machine_alone(lock: Lock) -> None:
    lock.ask(ANN)

    assert lock.ask(BOB)["failed"] is True
    assert "failed" not in lock.ask({**ANN, "process": "12@7", "running": ["12@7"]})


def test_a_run_knows_itself_among_those_that_run() -> None:
    holder = Playbooks("local").value("app_release", "lookup('deploy_holder')")

    assert holder["process"] in holder["running"]
