"""A verb of make refuses what it does not take, which make itself would ignore."""

from __future__ import annotations

import subprocess

import pytest

from tests.support.paths import PROJECT


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Ask make what it would do."""
    return subprocess.run(["make", "--dry-run", *arguments], cwd=PROJECT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["deploy", "INVENTROY=production"], "make deploy does not take INVENTROY. It takes INVENTORY ARGS REF."),
        (["rollback", "REF=v1.4"], "make rollback does not take REF. It takes INVENTORY ARGS TO."),
        (["verify", "TO=3f2a"], "make verify does not take TO. It takes INVENTORY ARGS."),
        (["deploy", "REF="], "REF is empty."),
        (["rollback", "INVENTORY=production", "TO="], "TO is empty."),
    ],
)
def test_what_a_verb_does_not_take_is_refused(arguments: list[str], told: str) -> None:
    ran = make(*arguments)

    assert ran.returncode == 2, ran.stdout
    assert f"Nothing was done: {told}" in ran.stderr, ran.stderr
    assert "ansible-playbook" not in ran.stdout


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["site", "REF=v1.4"], "site.yml --extra-vars app_ref=v1.4"),
        (
            ["deploy", "INVENTORY=production", "REF=v1.4", "ARGS=--check --diff"],
            "deploy.yml --extra-vars app_ref=v1.4 --check --diff",
        ),
        (["rollback", "TO=3f2a", "ARGS="], "rollback.yml --extra-vars rollback_to=3f2a"),
        (["lock", "REASON=the database moves"], "lock.yml"),
    ],
)
def test_what_a_verb_takes_reaches_the_playbook(arguments: list[str], line: str) -> None:
    ran = make(*arguments)

    assert ran.returncode == 0, ran.stderr
    assert line in ran.stdout
