"""The command installs from its wheel alone, and brings everything that its playbooks need."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import tomllib
import zipfile
from pathlib import Path

import pytest

from docs import command as documentation
from tests.support.paths import ANSIBLE, BIN, PROJECT, PYTHON


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [BIN / "uv", "build", "--quiet", "--wheel", f"--out-dir={folder}", PROJECT / "ansible" / "command"], check=True
    )
    [built] = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment that holds nothing but what the wheel asks for."""
    environment = tmp_path_factory.mktemp("environment")
    subprocess.run([BIN / "uv", "venv", "--quiet", f"--python={PYTHON}", environment], check=True)
    python = environment / "bin" / "python"
    subprocess.run([BIN / "uv", "pip", "install", "--quiet", f"--python={python}", wheel], check=True)
    return environment / "bin"


def test_the_wheel_s_command_shows_a_line_that_ansible_accepts(installed: Path, made_once: Path):
    # What a login shell of the user has, and no checkout.
    environment = {"HOME": os.environ["HOME"], "PATH": "/usr/bin:/bin"}
    shown = subprocess.run(
        [installed / "drumline", "deploy", "main", "--show", f"--project={made_once}", "--args=--list-tasks"],
        env=environment,
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    words = shlex.split(shown)
    assert not [word for word in words if str(PROJECT) in word]
    assert str(installed / "ansible-playbook") in words
    done = subprocess.run(shown, shell=True, env=environment, cwd="/", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for playbook in ("site.yml", "verify.yml"):
        assert (Path(next(word for word in words if word.endswith("deploy.yml"))).parent / playbook).is_file()
    assert "Take the deploy lock" in done.stdout


def test_the_wheel_carries_all_that_a_checkout_tracks_for_the_hosts_and_no_inventory(wheel: Path):
    carried = {name.removeprefix("drumline_cli/bundle/") for name in zipfile.ZipFile(wheel).namelist()}
    folders = ["ansible/roles", "ansible/plugins", "ansible/group_vars", "systemd", "supervisor", "tests/images"]
    tracked = subprocess.run(
        ["git", "ls-files", "--", *folders, ":(glob)ansible/*.yml", "uv.lock", "pyproject.toml"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    here = {name for name in tracked if not name.startswith("ansible/inventories")}
    assert here - carried == set()
    assert not [name for name in carried if "inventories" in name or "secrets/" in name or name.endswith(".pyc")]


def test_the_wheel_asks_for_the_versions_of_the_lock_and_no_others(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        metadata = archive.read(next(name for name in archive.namelist() if name.endswith("/METADATA"))).decode()
    pins = dict(re.findall(r"(?m)^Requires-Dist: ([\w.-]+)==([\w.]+)", metadata))
    locked = {
        package["name"]: package.get("version")
        for package in tomllib.loads((PROJECT / "uv.lock").read_text())["package"]
    }
    assert {"ansible", "ansible-core", "click", "jinja2", "mitogen", "uv"} <= set(pins)
    assert {name: locked[name] for name in pins} == pins
    asked = set(re.findall(r"(?m)^Requires-Dist: ([\w.-]+)", metadata))
    assert asked == set(pins)


def test_the_reference_of_the_command_is_current():
    assert documentation.REFERENCE.read_text() == documentation.reference(), (
        "docs/command.md is out of date: run make docs"
    )


def test_make_and_the_command_run_the_same_playbooks():
    makefile = (PROJECT / "Makefile").read_text()
    for playbook in re.findall(r"\b(\w+)\.yml\b", "\n".join(re.findall(r"ansible-playbook .*", makefile))):
        assert playbook == "hosts" or (ANSIBLE / f"{playbook}.yml").is_file()
        assert playbook == "hosts" or f'"{playbook}"' in (ANSIBLE / "command/src/drumline_cli/cli.py").read_text()
