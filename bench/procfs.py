"""What Linux says of processes."""

import os
import re
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")


def tree(pid: int) -> list[int]:
    """Return a process and all that came of it and lives."""
    threads = Path(f"/proc/{pid}/task").glob("*/children")
    return [pid, *(each for thread in threads for child in _read(thread).split() for each in tree(int(child)))]


def seconds(pid: int) -> float:
    """Return the processor time of a process and of all that came of it, those that ended included."""
    fields = (_read(Path(f"/proc/{each}/stat")).rpartition(")")[2].split() for each in tree(pid))
    return sum(sum(map(int, each[11:15])) for each in fields) / TICK


def megabytes(pid: int) -> float:
    """Return the memory of a process and of all that came of it; what they share is divided among those who share it."""
    rollups = (_read(Path(f"/proc/{each}/smaps_rollup")) for each in tree(pid))
    return sum(int(found[1]) for each in rollups if (found := re.search(r"^Pss:\s+(\d+)", each, re.MULTILINE))) / 1024


def _read(path: Path) -> str:
    """Return what is there; a process may end meanwhile."""
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
