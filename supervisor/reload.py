"""Restart a group of the supervisord that runs this program when the code in the current folder changes.

    python reload.py GROUP

The whole group, also for a template: a worker that renders e-mails keeps their templates in memory. Code that cannot
start says so once, and the old code goes on until it can.
"""

import os
import subprocess
import sys
import time
from contextlib import suppress
from typing import Any
from xmlrpc.client import Fault

from supervisor.childutils import getRPCInterface
from supervisor.states import STOPPED_STATES, ProcessStates
from watchfiles import PythonFilter, watch


def main(group: str) -> None:
    """Watch for ever."""
    supervisor = getRPCInterface(os.environ).supervisor
    for changes in watch(".", watch_filter=PythonFilter(extra_extensions=(".html", ".txt"))):
        paths = sorted({os.path.relpath(path) for _, path in changes})
        print("changed:", *paths[:3], "and more" if paths[3:] else "")
        checked = subprocess.run(["python", "manage.py", "check"], stderr=subprocess.PIPE, text=True, check=False)
        if checked.returncode:
            print(checked.stderr, "not restarted: this must be repaired first", sep="\n")
        else:
            restart(supervisor, group)


def restart(supervisor: Any, group: str) -> None:
    """Stop every process of the group and start it as soon as it has stopped: none waits for another one's task.

    What the developer has stopped stays so.
    """
    waiting = {name for name, state in states(supervisor, group).items() if state != ProcessStates.STOPPED}
    for process in waiting:
        # It may have ended by itself.
        with suppress(Fault):
            supervisor.stopProcess(process, False)  # noqa: FBT003  XML-RPC has no names
    while waiting:
        stopped = {name for name, state in states(supervisor, group).items() if state in STOPPED_STATES}
        for process in waiting & stopped:
            # supervisord may have started it by itself in between, which is as good.
            with suppress(Fault):
                supervisor.startProcess(process, False)  # noqa: FBT003  XML-RPC has no names
        waiting -= stopped
        time.sleep(0.05)


def states(supervisor: Any, group: str) -> dict[str, int]:
    """Return the states of the group's processes by their full names."""
    processes = supervisor.getAllProcessInfo()
    return {f"{group}:{process['name']}": process["state"] for process in processes if process["group"] == group}


main(sys.argv[1])
