"""The module file_list reads what file_set can bring back, also what was there before a run that was killed."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from tests.support.paths import ANSIBLE

if TYPE_CHECKING:
    from pathlib import Path


def file_list(*, check: bool = False, **arguments: Any) -> dict[str, Any]:
    """The module's answer when it runs on this machine, as Ansible calls it."""
    ran = subprocess.run(
        [sys.executable, str(ANSIBLE / "plugins/modules/file_list.py")],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": {**arguments, "_ansible_check_mode": check}}),
        capture_output=True,
        text=True,
        check=False,
    )
    answer: dict[str, Any] = json.loads(ran.stdout)
    return answer


def contents(answer: dict[str, Any]) -> list[str]:
    return [file["content"] for file in answer["files"]]


def test_what_was_found_outlives_a_run_that_was_killed_readable_by_its_owner_alone(tmp_path: Path) -> None:
    unit, kept = tmp_path / "web.service", tmp_path / "before.json"
    unit.write_text("of the release before\n")
    asked: dict[str, Any] = {"paths": [f"{tmp_path}/*.service"], "kept": str(kept)}

    assert file_list(**asked, about=["web"])["resumed"] is False
    unit.write_text("of the release that was being switched to\n")
    found = file_list(**asked, about=[])

    assert contents(found) == ["of the release before\n"]
    assert (found["about"], found["resumed"]) == (["web"], True)
    assert kept.stat().st_mode & 0o777 == 0o600

    kept.unlink()
    assert contents(file_list(**asked)) == ["of the release that was being switched to\n"]


def test_nothing_is_kept_in_check_mode_or_on_a_host_without_its_folder(tmp_path: Path) -> None:
    kept = tmp_path / "shared" / "before.json"

    assert file_list(paths=[], kept=str(kept))["files"] == []
    kept.parent.mkdir()
    file_list(paths=[], kept=str(kept), check=True)

    assert not kept.exists()
