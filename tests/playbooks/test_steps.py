"""The last line of a run says where its time went."""

from __future__ import annotations

import importlib.util

import pytest

from tests.support.paths import ANSIBLE

_spec = importlib.util.spec_from_file_location("steps", ANSIBLE / "plugins" / "callback" / "steps.py")
assert _spec
assert _spec.loader
steps = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(steps)


@pytest.mark.parametrize(
    ("path", "step"),
    [
        ("/x/ansible/roles/app_release/tasks/migrate.yml:12", "migrate"),
        ("/x/ansible/roles/app_services/tasks/units.yml:3", "restart"),
        ("/x/ansible/roles/verify/tasks/deployed.yml:2", "verify"),
        ("/x/ansible/deploy_switch.yml:30", "deploy_switch"),
    ],
)
def test_a_task_counts_for_the_step_of_its_file(path: str, step: str) -> None:
    assert steps.step_of(path) == step


def test_short_steps_count_but_are_not_named() -> None:
    assert steps.told({"build": 3.21, "lock": 0.1, "restart": 12}) == "15 s: build 3.2, restart 12.0"


def test_a_host_that_was_lost_is_named_with_what_to_do() -> None:
    assert steps.lost("web1") == (
        "web1 cannot be reached. Its processes run on. Check that it is up: ssh web1\n"
        "When it answers, run the same playbook again: it finishes what this run began there."
    )
