"""Puts the playbooks and all that they use into the wheel, and pins what it needs to uv.lock."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

CHECKOUT = Path(__file__).resolve().parents[2]
# As in a checkout, so that the playbooks find everything in its usual place.
CARRIED = [
    "LICENSE",
    "ansible/ansible.cfg",
    ":(glob)ansible/*.yml",
    "ansible/group_vars",
    "ansible/plays",
    "ansible/plugins",
    "ansible/roles",
    "ansible/tasks",
    "ansible/command/pyproject.toml",
    "drumline/CHANGELOG.md",
    "drumline/LICENSE",
    "drumline/README.md",
    "drumline/pyproject.toml",
    "drumline/src",
    "pyproject.toml",
    "supervisor",
    "systemd",
    # What boots a test host.
    "tests/images",
    "uv.lock",
]


class CarryThePlaybooks(BuildHookInterface):  # type: ignore[type-arg]
    """The build hook of the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the files and the pins, except to an editable install, which uses the checkout."""
        if version == "editable":
            return
        # What git tracks and nothing else: a checkout holds generated secrets, too.
        listed = _run("git", "ls-files", "-z", "--", *CARRIED).split("\0")
        build_data["force_include"] |= {str(CHECKOUT / name): f"drumline_cli/bundle/{name}" for name in listed if name}
        build_data["dependencies"] += _run(
            *[_uv(), "export", "--quiet", "--frozen", "--package=drumline-cli", "--no-emit-project", "--no-dev"],
            *["--no-hashes", "--no-header", "--no-annotate"],
        ).splitlines()


def _uv() -> str:
    uv = os.environ.get("UV") or shutil.which("uv")
    if not uv:
        raise RuntimeError(
            "The wheel is pinned to uv.lock by uv, which is not on PATH. Type: uv build --wheel ansible/command"
        )
    return uv


def _run(*command: str) -> str:
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command[:4])} failed: {done.stderr.strip()}")
    return done.stdout
