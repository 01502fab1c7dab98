"""pretix, from PyPI: a checkout of its users holds no code, only what to install."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from tests.support.paths import BIN

if TYPE_CHECKING:
    from pathlib import Path

VERSION = "pretix==2026.8.*"


def make(checkout: Path) -> None:
    """Write the requirements, and install pretix itself beside them, where `drumline init` reads its settings."""
    checkout.mkdir()
    (checkout / "requirements.txt").write_text(f"{VERSION}\n")
    subprocess.run([BIN / "uv", "venv", "--quiet", checkout / ".venv"], check=True)
    install = [BIN / "uv", "pip", "install", "--quiet", "--no-deps", f"--python={checkout / '.venv'}", VERSION]
    subprocess.run(install, check=True)
