"""systemd itself accepts every unit, and scores its sandbox."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.support.rendering import Playbooks

# systemd-analyze knows them from the host, and --root leaves the host out.
STUB_UNITS = ("network-online.target", "multi-user.target", "basic.target", "sysinit.target", "shutdown.target")
STUB_UNITS += ("sockets.target", "slices.target", "-.slice", "system.slice")


@pytest.fixture(scope="session")
def root(
    tmp_path_factory: pytest.TempPathFactory, service_files: dict[str, str], supervisor_files: dict[str, str]
) -> Path:
    """A file system that holds the rendered units and a stub for every program that they start."""
    root = tmp_path_factory.mktemp("root")
    counterparts = Playbooks("local").value("counterparts", "__counterparts_files")
    files = service_files | supervisor_files | {file["path"]: file["content"] for file in counterparts}
    for path, content in files.items():
        target = root / path.removeprefix("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content)
        for program in re.findall(r"^Exec(?!Paths)\w+=[-@:+!]*(/\S+)", content, flags=re.MULTILINE):
            stub = root / program.removeprefix("/")
            stub.parent.mkdir(parents=True, exist_ok=True)
            stub.write_text("")
            stub.chmod(0o755)
    for name in STUB_UNITS:
        stub = root / "usr/lib/systemd/system" / name
        stub.parent.mkdir(parents=True, exist_ok=True)
        stub.write_text("[Unit]\n")
    return root


@pytest.fixture(scope="session")
def units(playbooks: Playbooks) -> list[str]:
    names: list[str] = playbooks.value("app_services", "app_services_units")
    return [*names, "drumline-counterpart@crm.service"]


def test_systemd_accepts_every_unit_without_a_warning(root: Path, units: list[str]) -> None:
    verified = subprocess.run(
        [
            "systemd-analyze",
            "verify",
            "--recursive-errors=one",
            "--man=no",
            f"--root={root}",
            *units,
            "drumline.target",
            "drumline-supervisor.service",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert verified.returncode == 0, verified.stderr
    assert verified.stderr == ""


def test_a_misspelt_directive_would_be_seen(root: Path) -> None:
    unit = root / "etc/systemd/system/drumline-misspelt.service"
    unit.write_text("[Service]\nExecStart=/usr/bin/kill\nProtectSytem=strict\n")
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--recursive-errors=one", "--man=no", f"--root={root}", unit.name],
        capture_output=True,
        text=True,
        check=False,
    )
    unit.unlink()
    assert verified.returncode != 0
    assert "ProtectSytem" in verified.stderr


def test_every_service_scores_at_most_2_in_systemds_own_review(root: Path, units: list[str]) -> None:
    services = [name for name in [*units, "drumline-supervisor.service"] if name.endswith(".service")]
    scored = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", f"--root={root}", "--no-pager", *services],
        capture_output=True,
        text=True,
        check=False,
    )
    assert scored.returncode == 0, "\n".join(re.findall(r".*Overall.*", scored.stdout)) or scored.stderr
