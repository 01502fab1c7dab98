"""A run shows what it changes and why it failed, as it was written, and names the task that takes long."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from drumline_cli import playbook
from drumline_cli.errors import Failure
from tests.support.paths import ANSIBLE, BIN

PLAYBOOK = """
- name: Set up the shop
  hosts: localhost
  gather_facts: false
  tasks:
    - name: Look around
      ansible.builtin.command: "true"
      changed_when: false
    - name: Open the doors
      ansible.builtin.command: "true"
      changed_when: true
    - name: Count the money
      ansible.builtin.fail:
        msg: |
          The till is empty.
          Fill it: make money
      delegate_to: localhost
"""


@pytest.fixture
def line(tmp_path: Path) -> list[str]:
    path = tmp_path / "shop.yml"
    path.write_text(PLAYBOOK)
    return [str(BIN / "ansible-playbook"), "--inventory=localhost,", "--connection=local", str(path)]


def shown(line: list[str]) -> tuple[list[str], list[str], int]:
    """Run it, and return its output without the times, the tasks that the command is told, and the exit status."""
    reading, writing = os.pipe()
    done = subprocess.run(
        line,
        env=os.environ | playbook.environment() | {"DRUMLINE_PROGRESS": str(writing), "ANSIBLE_STRATEGY": "linear"},
        pass_fds=[writing],
        capture_output=True,
        text=True,
        check=False,
        cwd=ANSIBLE,
    )
    os.close(writing)
    with os.fdopen(reading) as told:
        tasks = told.read().splitlines()
    output = [text[8:] if text[3:4] == ":" else text for text in done.stdout.splitlines()]
    assert output.pop().startswith("Took ")
    return output, tasks, done.returncode


def test_changes_and_messages_are_shown_and_the_rest_is_not(line: list[str]):
    output, tasks, status = shown(line)

    assert tasks == ["Look around", "Open the doors", "Count the money"]
    assert output == [
        "Set up the shop",
        "  localhost  Open the doors",
        "✗ localhost: Count the money",
        "        The till is empty.",
        "        Fill it: make money",
        "localhost: 2 checked, 1 changed, 1 failed",
    ]
    assert status == 2


def test_what_fails_alike_on_every_host_is_told_once(line: list[str]):
    shop = Path(line[-1])
    shop.write_text(PLAYBOOK.replace("hosts: localhost", "hosts: all"))

    output, _, _ = shown([argument.replace("=localhost,", "=east,west,") for argument in line])

    for host in ("east", "west"):
        assert f"✗ {host}: Count the money" in output, output
    assert output.count("        Fill it: make money") == 1, output
    assert output.count("        As above.") == 1, output


def test_a_run_that_fails_ends_with_the_time_that_it_took(line: list[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ANSIBLE_STRATEGY", "linear")
    with pytest.raises(Failure, match=r"failed after \d+ s; the reason stands above"):
        playbook.run(line, show=False)


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (59, "59 s"), (60, "1 min 00 s"), (3725, "62 min 05 s")])
def test_a_duration_is_written_for_people(seconds: float, text: str):
    assert playbook.elapsed(seconds) == text
