"""A refused deploy names the step and the reason, not the last line of what was printed."""

from __future__ import annotations

import importlib.util
from typing import Any

from tests.support.paths import ANSIBLE

_spec = importlib.util.spec_from_file_location("outcome", ANSIBLE / "plugins" / "filter" / "outcome.py")
assert _spec
assert _spec.loader
outcome = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(outcome)

CHECK = """SystemCheckError: System check identified some issues:

ERRORS:
orders.Order.total: (fields.E132) 'max_digits' must be a positive integer.

System check identified 1 issue (0 silenced).
"""
MIGRATE = """Operations to perform:
  Apply all migrations: orders
Running migrations:
  Applying orders.0007_total... OK
  Applying orders.0008_currency..."""


def command(*words: str, **result: Any) -> dict[str, Any]:
    return {"item": list(words), "failed": True, **result}


def test_a_hook_that_would_never_run_or_is_no_command_is_named() -> None:
    assert outcome.hook_problems({"before_migrate": [["./dump", "now"]]}) == []
    unknown, command, words = outcome.hook_problems(
        {"after_lunch": [], "deployed": ["./notify"], "rejected": "./notify"}
    )
    assert unknown.startswith("app_hooks has the unknown key after_lunch. Known keys are before_build")
    assert command.startswith("app_hooks.deployed has './notify'. Write each command as a list")
    assert words.startswith("app_hooks.rejected has './notify'")


def test_a_failed_check_is_told_by_its_issue() -> None:
    told = outcome.failure({"results": [command("check", "--deploy", stderr=CHECK)]}, {"name": "app_release : Check"})

    assert told["step"] == "check --deploy"
    assert "'max_digits' must be a positive integer." in told["reason"]


def test_a_message_has_the_step_the_host_and_the_reason_or_says_where_to_look() -> None:
    failed = {"step": "check --deploy", "reason": "first\n\nsecond", "advice": ""}

    assert outcome.failure_told(failed) == "Failed: check --deploy\n\n  first\n\n  second"
    assert outcome.failure_told(failed, "app1").startswith("Failed on app1: check --deploy\n\n  first")
    assert outcome.failure_told({"step": "", "reason": ""}, "app1").startswith(
        "It failed on another host; see that host"
    )


def test_every_command_that_failed_is_told_and_none_that_passed() -> None:
    results = [
        command("check", stderr="CommandError: one"),
        {"item": ["passes"], "stdout": "fine"},
        command("drumline_check", stderr="CommandError: two"),
    ]

    told = outcome.failure({"results": results}, {})

    assert told == {
        "step": "check, drumline_check",
        "reason": "CommandError: one\n\nCommandError: two",
        "advice": "Fix the cause, then run the playbook again.",
    }


def test_a_module_that_failed_is_told_by_its_message_and_the_name_of_its_step() -> None:
    told = outcome.failure({"msg": "No space left on device"}, {"name": "app_release : Upload the artefact"})

    assert (told["step"], told["reason"]) == ("Upload the artefact", "No space left on device")
    assert told["advice"].startswith("Make room, then run the playbook again. To see what is full: df -h")


def test_of_a_long_traceback_the_end_is_told() -> None:
    frames = "".join(f"  File {number}\n" for number in range(50))

    told = outcome.reason({"stderr": f"Traceback (most recent call last):\n{frames}ValueError: no"})

    assert told.startswith("(40 lines left out)\n  File 39\n")
    assert told.endswith("ValueError: no")


def test_a_host_that_ended_for_another_ones_failure_has_no_reason_of_its_own() -> None:
    told = outcome.failure({}, {})

    assert (told["step"], told["reason"]) == ("", "")


def test_of_many_migrations_the_number_is_told() -> None:
    assert outcome.migrations_told(["auth.0001_initial", "orders.0007_total"]) == "auth.0001_initial, orders.0007_total"
    many = [f"auth.{number:04}" for number in range(12)] + ["orders.0007_total"]
    assert outcome.migrations_told(many) == "13 migrations of auth, orders"


def test_the_migrations_that_were_applied_before_one_failed_are_known() -> None:
    assert outcome.migrations_applied([{"stdout": "checked"}, {"stdout": MIGRATE}]) == ["orders.0007_total"]
