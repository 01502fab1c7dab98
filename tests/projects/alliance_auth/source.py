"""Alliance Auth, from PyPI, as its installation guide begins: `allianceauth start myauth`."""

from __future__ import annotations

import os
import subprocess
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from tests.support.paths import BIN, PYTHON

if TYPE_CHECKING:
    from pathlib import Path

VERSION = "allianceauth~=5.5.0"
START = "from allianceauth.bin.allianceauth import main; main()"


def make(checkout: Path) -> None:
    """Have its own program write the checkout, which needs none of what the site needs."""
    checkout.mkdir()
    with TemporaryDirectory() as installed:
        subprocess.run(
            [BIN / "uv", "pip", "install", "--quiet", "--no-deps", f"--target={installed}", VERSION], check=True
        )
        env = os.environ | {"PYTHONPATH": installed}
        subprocess.run([PYTHON, "-c", START, "start", "myauth", checkout], check=True, env=env)
    (checkout / "requirements.txt").write_text(f"{VERSION}\n")
