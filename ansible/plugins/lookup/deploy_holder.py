"""Who deploys, as the lock of a host remembers it."""

from __future__ import annotations

DOCUMENTATION = """
name: deploy_holder
short_description: Who deploys, as the lock of a host remembers it
description:
  - Returns the user, the machine, the process of this playbook run, and the runs of this machine that go on now. A
    process is named by its PID and its start, since PIDs come again.
options:
  _terms: {description: Nothing., required: false}
author: Drumline
"""

import getpass
import multiprocessing
import os
import socket
from pathlib import Path
from typing import Any

from ansible.plugins.lookup import LookupBase


def _process(pid: int) -> str | None:
    """A process by its PID and its start; None when there is none."""
    try:
        started = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
    except OSError:
        return None
    return f"{pid}@{started}"


class LookupModule(LookupBase):
    """The lookup `deploy_holder`."""

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **_kwargs: Any) -> list[dict[str, Any]]:
        """One dict with who, machine, process and running."""
        del terms, variables
        # A task's arguments may be computed by a child of the run.
        parent = multiprocessing.parent_process()
        pid = (parent and parent.pid) or os.getpid()
        machine = socket.gethostname()
        everything = (_process(int(entry)) for entry in os.listdir("/proc") if entry.isdigit())
        return [
            {
                "who": f"{getpass.getuser()} on {machine}",
                "machine": f"{machine} {Path('/etc/machine-id').read_text().strip() if Path('/etc/machine-id').exists() else ''}",
                "process": _process(pid),
                "running": [process for process in everything if process],
            }
        ]
