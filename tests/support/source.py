"""The source of another release: what an artefact is made of, to be changed by a test."""

import re
import shutil
from pathlib import Path

from tests.support.paths import PROJECT

# Passes every check, which start no worker, and fails at the first step after the switch.
ENDS_AT_ONCE = """
import os
from celery.signals import worker_init


@worker_init.connect
def end_at_once(**_):
    print("this release has no workers", flush=True)
    os._exit(1)
"""


def copy_source(to: Path) -> Path:
    """Copy the example and the package that its lock takes from this checkout; return the folder."""
    for folder in ("app", "drumline"):
        shutil.copytree(PROJECT / folder, to / folder, ignore=shutil.ignore_patterns("__pycache__", "*.sqlite3"))
    for name in ("pyproject.toml", "uv.lock"):
        shutil.copy(PROJECT / name, to)
    return to


def allow_pings_of(seconds: float, source: Path) -> None:
    """Have a copy's ping keep a worker busy for so long, and not for half a minute at most."""
    tasks = source / "drumline/src/drumline/tasks.py"
    longest = f"LONGEST_SECONDS = {seconds:.1f}"
    tasks.write_text(re.sub(r"^LONGEST_SECONDS = .*$", longest, tasks.read_text(), flags=re.MULTILINE))
