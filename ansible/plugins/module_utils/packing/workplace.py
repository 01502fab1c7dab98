"""What the steps of a build share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

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
    # Whether locks are kept; not in a dry run.
    keep: bool
    # Pythons of the controller by their version, as far as it has those of the hosts.
    interpreters: dict[str, Path] = field(default_factory=dict)
