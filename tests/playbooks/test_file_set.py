"""The module file_set writes exactly the set, once, and leaves nothing behind."""

from __future__ import annotations

import grp
import json
import os
import pwd
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.paths import ANSIBLE


def file_set(files: list[dict[str, str]], *, check: bool = False, **arguments: Any) -> dict[str, Any]:
    """The module's answer when it runs on this machine, as Ansible calls it."""
    me = {"owner": pwd.getpwuid(os.getuid()).pw_name, "group": grp.getgrgid(os.getgid()).gr_name}
    own = {"_ansible_check_mode": check, "_ansible_diff": True}
    ran = subprocess.run(
        [sys.executable, str(ANSIBLE / "plugins/modules/file_set.py")],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": {"files": [me | file for file in files], **arguments, **own}}),
        capture_output=True,
        text=True,
        check=False,
    )
    answer: dict[str, Any] = json.loads(ran.stdout)
    return answer


def test_it_writes_what_differs_and_a_second_run_changes_nothing(tmp_path: Path) -> None:
    files = [{"path": str(tmp_path / "a" / "b.conf"), "content": "one\n", "mode": "0640"}]

    assert file_set(files)["written"] == [files[0]["path"]]
    assert (tmp_path / "a" / "b.conf").read_text() == "one\n"
    assert (tmp_path / "a" / "b.conf").stat().st_mode & 0o7777 == 0o640
    assert file_set(files)["changed"] is False


def test_it_removes_what_is_no_longer_in_the_set_and_nothing_else(tmp_path: Path) -> None:
    for name in ("old.env", "kept.txt"):
        (tmp_path / name).write_text("")
    files = [{"path": str(tmp_path / "new.env"), "content": "x"}]

    assert file_set(files, purge=[f"{tmp_path}/*.env"])["removed"] == [str(tmp_path / "old.env")]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept.txt", "new.env"]


def test_check_mode_tells_and_touches_nothing(tmp_path: Path) -> None:
    files = [{"path": str(tmp_path / "a.conf"), "content": "one\n"}]

    answer = file_set(files, check=True)

    assert answer["changed"] is True
    assert answer["diff"][0]["after"] == "one\n"
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_its_checker_refuses_takes_no_place(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("echo before\n")
    file = {"path": str(program), "content": "if\n", "validate": "/bin/sh -n %s"}

    answer = file_set([file])

    assert answer["failed"] is True
    assert answer["msg"].startswith(f"{program} was not replaced: /bin/sh -n %s says:")
    assert [path.name for path in tmp_path.iterdir()] == ["program"]
    assert program.read_text() == "echo before\n"
    assert file_set([file | {"content": "if true; then exit; fi\n"}])["written"] == [str(program)]


def test_an_unknown_owner_is_named_with_its_file(tmp_path: Path) -> None:
    answer = file_set([{"path": str(tmp_path / "a"), "content": "", "owner": "nobody-knows"}])

    assert answer["failed"] is True
    assert "nobody-knows" in answer["msg"]
    assert str(tmp_path / "a") in answer["msg"]


def test_what_cannot_be_written_is_named_with_the_cause() -> None:
    answer = file_set([{"path": "/proc/self/a.conf", "content": "one\n"}])

    assert answer["failed"] is True
    assert answer["msg"] == "/proc/self/a.conf cannot be written: No such file or directory."


def test_check_mode_tells_of_a_file_that_would_change_its_owner(tmp_path: Path) -> None:
    (tmp_path / "a.conf").write_text("one\n")
    (tmp_path / "a.conf").chmod(0o644)
    # Only root gives files away.
    if os.getuid() != 0:
        pytest.skip("needs root")
    os.chown(tmp_path / "a.conf", 65534, 65534)

    answer = file_set(
        [{"path": str(tmp_path / "a.conf"), "content": "one\n", "owner": "root", "group": "root"}], check=True
    )

    assert answer["changed"] is True
