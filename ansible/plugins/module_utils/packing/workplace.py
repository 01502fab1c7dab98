"""What the steps of a build share."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ansible.module_utils.packing.programs import PackingError, run

if TYPE_CHECKING:
    from pathlib import Path

    from .indexes import Indexes


@dataclass
class Workplace:
    """Where a build happens, and with which tools."""

    # For this build alone.
    work: Path
    # Keeps locks, built wheels and interpreters from one build to the next.
    dest: Path
    uv: Path
    indexes: Indexes
    # Drumline's own checkout.
    drumline: Path
    # Name and major version of the hosts' distribution.
    distribution: str
    # Versions of the tools that build packages.
    build_constraints: list[str]
    # Debian packages that are needed to resolve and to build, and whether to install them.
    build_packages: list[str]
    build_packages_install: bool
    # Whether locks are kept, and packages installed; not in a dry run.
    keep: bool
    # Pythons of the controller by their version, as far as it has those of the hosts.
    interpreters: dict[str, Path] = field(default_factory=dict)

    def require_packages(self) -> None:
        """Have the Debian packages that the build needs, or stop."""
        missing = _missing(self.build_packages)
        if missing and not self.build_packages_install:
            raise PackingError(
                f"The controller lacks {', '.join(missing)} (app_build_packages). Type: sudo apt-get install {' '.join(missing)}\n"
                "or allow the playbook to install them there: app_build_packages_install: true"
            )
        if missing and self.keep:
            _install(missing)


def _missing(names: list[str]) -> list[str]:
    """Those Debian packages that the controller does not have; none where it cannot be asked."""
    if not names or not shutil.which("dpkg-query"):
        return []
    missing = []
    for name in names:
        try:
            status = run(["dpkg-query", "--show", "--showformat=${db:Status-Status}\\n", name], failed="")
        except PackingError:
            status = ""
        if "installed" not in status.split():
            missing.append(name)
    return missing


def _install(names: list[str]) -> None:
    """Install Debian packages on the controller."""
    command = [] if os.geteuid() == 0 else ["sudo", "--non-interactive"]
    run(
        [*command, "apt-get", "install", "--yes", "--no-install-recommends", *names],
        env={"DEBIAN_FRONTEND": "noninteractive"},
        failed=f"The controller cannot install {' '.join(names)}",
        advice=f"Type: sudo apt-get update && sudo apt-get install {' '.join(names)}",
    )
