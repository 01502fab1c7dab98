"""Where this checkout and the programs of its environment are."""

import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
ANSIBLE = PROJECT / "ansible"
TESTHOST = PROJECT / "tests" / "images" / "testhost.py"
PYTHON = sys.executable
BIN = Path(PYTHON).parent
