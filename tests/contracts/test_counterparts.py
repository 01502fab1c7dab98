"""What stands in for other people's services on a test host starts, and is where the application looks for it."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from tests.conftest import SECRETS
from tests.support.paths import PROJECT
from tests.support.rendering import Playbooks


@pytest.fixture(scope="module")
def local() -> Playbooks:
    return Playbooks("local", **SECRETS)


@pytest.fixture(scope="module")
def programs(local: Playbooks) -> dict[str, str]:
    rendered: dict[str, str] = local.value("counterparts", "counterparts_programs")
    return rendered


def test_each_program_starts_alone_and_says_what_the_application_is_told(
    local: Playbooks, programs: dict[str, str]
) -> None:
    variables = {
        name: value
        for dictionary in ("app_release_env", "app_release_secrets")
        for name, value in local.value("app_release", dictionary).items()
    }
    for name, arguments in programs.items():
        port, *more = arguments.split()
        program = subprocess.Popen(
            [sys.executable, "-I", PROJECT / "tests" / "counterparts" / f"{name}.py", "0", *more],
            stdout=subprocess.PIPE,
            text=True,
        )
        said, _, url = str(program.stdout.readline()).strip().partition("=")
        program.kill()
        program.communicate()
        given = url.rpartition(":")[2].partition("/")[0]
        assert variables[said] == url.replace(f":{given}", f":{port}"), name


def test_each_program_is_written_with_its_arguments_and_its_unit(local: Playbooks, programs: dict[str, str]) -> None:
    files: dict[str, str] = {file["path"]: file["content"] for file in rendered(local)}
    for name, arguments in programs.items():
        source = PROJECT / "tests" / "counterparts" / f"{name}.py"
        assert files[f"/usr/local/lib/drumline-counterparts/{name}.py"] == source.read_text()
        assert files[f"/etc/drumline-counterparts/{name}.env"] == f"ARGUMENTS={arguments}\n"
    assert len(files) == 2 * len(programs) + 1


def rendered(local: Playbooks) -> list[dict[str, Any]]:
    files: list[dict[str, Any]] = local.value("counterparts", "__counterparts_files")
    return files
