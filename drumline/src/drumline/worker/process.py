"""Which process a worker is, in words that tell another process of the same machine whether it has ended."""

import os
from pathlib import Path

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def this_process() -> str:
    """Return the machine's boot and PID namespace, the PID and the start of this process; empty when they are unknown."""
    machine, pid = _machine(), os.getpid()
    return f"{machine} {pid} {_start(pid)}" if machine else ""


def has_ended(process: str) -> bool:
    """Return whether a process is known to have ended; False when it lives, and when this process cannot know.

    A PID means something within one boot of one machine and one PID namespace. The start tells a process from a later
    one with the same PID; the process of another user may not be read, and then counts as alive.
    """
    machine, pid, start = process.split() if process else ("", "", "")
    if not machine or machine != _machine():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return _start(int(pid)) not in {start, ""}


def _machine() -> str:
    """Return the boot and the PID namespace; empty when the boot cannot be told from that of another machine.

    A unit with `ProcSubset=pid` does not see the boot's id, and is given it as BOOT_ID.
    """
    try:
        boot = BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        boot = os.environ.get("BOOT_ID", "")
    try:
        namespace = Path("/proc/self/ns/pid").readlink()
    except OSError:
        return ""
    return f"{boot.replace('-', '')}/{namespace}" if boot else ""


def _start(pid: int) -> str:
    """Return when a process started, in ticks since the boot; `ended` for a zombie, empty when it may not be read."""
    try:
        # The name, in parentheses, may hold anything.
        state, *fields = (
            Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        )
    except OSError:
        return ""
    return "ended" if state in "ZX" else fields[18]
