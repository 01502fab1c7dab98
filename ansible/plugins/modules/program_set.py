#!/usr/bin/python
"""Bring a set of supervisor's programs to run what is on the disk."""

from __future__ import annotations

DOCUMENTATION = """
module: program_set
short_description: Bring a set of supervisor's programs to run what is on the disk
description:
  - A process is stale when it does not run, when supervisor's configuration says something else of it, or when
    something that it is made of is newer than it - the program that runs it, its environment files, or its working
    directory when that is a link, as the link to the current release is. Only stale processes are restarted, so a run
    with nothing new touches nothing, and a run that follows a failed one finishes its work.
  - Waves are restarted one after the other, the processes of one wave together, and each wave must be ready
    before the next begins. That is what keeps a queue served - put its instances in different waves.
  - What supervisor runs and its configuration does not hold any more is stopped.
options:
  waves:
    description: Lists of processes, named as supervisorctl names them, in the order of their restart.
    type: list
    elements: list
    required: true
  socket:
    description: Supervisor's socket; drumline-run tells beside it which process is ready.
    type: path
    default: /run/drumline-supervisor/supervisor.sock
  ready_timeout:
    description:
      - Seconds that a process may take to be ready. More than drumline-run allows it (I(--ready-within)), which ends a
        process that takes longer, so that what is reported is its end and its log.
    type: int
    default: 630
  settle:
    description: Seconds that what was restarted must stay up.
    type: int
    default: 0
  restart:
    description: Programs of the waves to restart although nothing of theirs has changed.
    type: list
    elements: str
    default: []
author: Drumline
"""

EXAMPLES = """
- name: Run the workers and the web, each queue served all the while
  program_set:
    waves: [[worker-high-1, worker-low-1], [worker-high-2, worker-low-2], ["web:web-0"], ["web:web-1"], ["web:web-2"]]
    settle: 10
"""

RETURN = """
changed: {description: Whether anything was restarted or stopped., type: bool, returned: always}
diff: {description: Why each process was or would be restarted., type: dict, returned: always}
restarted: {description: Processes that were started or restarted., type: list, returned: always}
stopped: {description: Programs that were stopped., type: list, returned: always}
"""

import http.client
import os
import shlex
import socket
import time
import xmlrpc.client
from contextlib import closing
from typing import TYPE_CHECKING, Any

from ansible.module_utils.basic import AnsibleModule

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_UNDERWAY = ("STARTING", "RUNNING")
_STOPPED = ("STOPPED", "EXITED", "FATAL", "UNKNOWN")
# Seconds between two looks, and those that supervisord itself may take to answer.
_LOOK = 0.2
_ANSWER = 15.0
_LOG_BYTES = 2500


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)


class _Transport(xmlrpc.client.Transport):
    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        _, connection = self._connection
        if connection is None:
            connection = _Connection(self._path)
            self._connection = host, connection
        return connection


class ProgramError(Exception):
    """What did not work, and what to do."""


def _started_at(pid: int) -> float:
    """When a process was started, in seconds since the epoch."""
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as handle:
        ticks = int(handle.read().rsplit(")", 1)[1].split()[19])
    boot = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    return boot + ticks / os.sysconf("SC_CLK_TCK")


def _made_of(configuration: dict[str, str]) -> list[str]:
    program, *arguments = shlex.split(configuration["command"])
    directory = configuration["directory"]
    # A relative one is the release's.
    environment = [
        os.path.join(directory, argument.removeprefix("--env="))
        for argument in arguments
        if argument.startswith("--env=")
    ]
    return [program, *environment, *([directory] if os.path.islink(directory) else [])]


def _newer(configuration: dict[str, str], pid: int) -> str | None:
    try:
        started_at = _started_at(pid)
    except FileNotFoundError:
        return None
    for path in _made_of(configuration):
        # lstat: a link that was switched is newer, whatever it points to.
        if os.path.lexists(path) and os.lstat(path).st_mtime > started_at:
            return f"{path} is newer"
    return None


class Programs:
    """What supervisor runs, and what it should run."""

    def __init__(self, path: str, ready_timeout: float) -> None:
        self._folder = os.path.dirname(path)
        self._ready_timeout = ready_timeout
        self._transport = _Transport(path)
        # XML-RPC types nothing.
        self._rpc: Any = xmlrpc.client.ServerProxy("http://localhost", transport=self._transport).supervisor

    def close(self) -> None:
        """Hang up."""
        self._transport.close()

    def read(self) -> None:
        """Have supervisor read its configuration, and learn what differs from what runs."""
        deadline = time.monotonic() + _ANSWER
        while True:
            try:
                [[self.added, self.changed, self.removed]] = self._rpc.reloadConfig()
                break
            except (OSError, http.client.HTTPException) as error:
                if time.monotonic() > deadline:
                    raise ProgramError(
                        f"supervisord does not answer: {error}. To see why: journalctl -u drumline-supervisor -n 50"
                    ) from error
                time.sleep(_LOOK)
            except xmlrpc.client.Fault as error:
                raise ProgramError(f"supervisord rejects its configuration: {error.faultString}") from error
        self._configurations = {_name(one): one for one in self._rpc.getAllConfigInfo()}

    def states(self) -> dict[str, dict[str, Any]]:
        """What supervisor says of each process, by name."""
        return {_name(one): one for one in self._rpc.getAllProcessInfo()}

    def stale(self, name: str, states: dict[str, dict[str, Any]]) -> str | None:
        """Why a process must be restarted, or None."""
        group = name.partition(":")[0]
        if group in self.added or name not in states:
            return "new"
        if group in self.changed:
            return "its configuration has changed"
        state = states[name]["statename"]
        return _newer(self._configurations[name], states[name]["pid"]) if state in _UNDERWAY else state.lower()

    def restart(self, names: list[str]) -> None:
        """Stop processes together, and start them with the configuration as it is now."""
        groups = {name.partition(":")[0] for name in names} & {*self.added, *self.changed}
        running = [name for name, one in self.states().items() if one["group"] in groups or name in names]
        self.stop(running)
        for group in sorted(groups):
            if group in self.changed:
                self._rpc.removeProcessGroup(group)
            self._rpc.addProcessGroup(group)
        self.added = [group for group in self.added if group not in groups]
        self.changed = [group for group in self.changed if group not in groups]
        for name in names:
            self._ask(self._rpc.startProcess, name)

    def stop(self, names: list[str]) -> None:
        """Stop processes together, each in its own time: supervisor ends what takes too long."""
        while left := {
            name: one for name, one in self.states().items() if name in names and one["statename"] not in _STOPPED
        }:
            for name, one in left.items():
                if one["statename"] != "STOPPING":
                    self._ask(self._rpc.stopProcess, name)
            time.sleep(_LOOK)

    def remove(self, groups: list[str]) -> None:
        """Stop and forget what the configuration does not hold."""
        self.stop([name for name, one in self.states().items() if one["group"] in groups])
        for group in groups:
            self._rpc.removeProcessGroup(group)

    def wait(self, names: list[str]) -> None:
        """Return once they are ready."""
        deadline = time.monotonic() + self._ready_timeout
        seen: dict[str, int] = {}
        while True:
            states = self.states()
            waiting = [name for name in names if not self.ready(name, states)]
            if not waiting:
                return
            for name in waiting:
                pid = states[name]["pid"]
                ended = states[name]["statename"] not in _UNDERWAY or pid != seen.setdefault(name, pid)
                if ended or time.monotonic() > deadline:
                    raise ProgramError(self._tell(name, "ended before it was" if ended else "did not become"))
            time.sleep(_LOOK)

    def pids(self, names: list[str]) -> dict[str, int]:
        """The process of each."""
        return {name: one["pid"] for name, one in self.states().items() if name in names}

    def settle(self, pids: dict[str, int], seconds: float) -> None:
        """Return once they have stayed up, each as the same process."""
        deadline = time.monotonic() + seconds
        while True:
            states = self.states()
            for name, pid in pids.items():
                if states[name]["pid"] != pid or not self.ready(name, states):
                    raise ProgramError(self._tell(name, "ended soon after it was"))
            if time.monotonic() >= deadline:
                return
            time.sleep(_LOOK)

    def ready(self, name: str, states: dict[str, dict[str, Any]]) -> bool:
        """Whether a process has said so in its present life."""
        one = states[name]
        try:
            with open(f"{self._folder}/{one['group']}:{one['name']}.ready", encoding="ascii") as handle:
                return one["statename"] == "RUNNING" and handle.read() == str(one["pid"])
        except FileNotFoundError:
            return False

    def _ask(self, what: Callable[[str, bool], object], name: str) -> None:
        try:
            what(name, False)  # noqa: FBT003  supervisor's `wait`
        except xmlrpc.client.Fault as error:
            # It is on its way there by itself, or cannot: the states tell.
            if error.faultString.partition(":")[0] not in ("NOT_RUNNING", "ALREADY_STARTED", "SPAWN_ERROR"):
                raise ProgramError(f"{name}: {error.faultString}") from error

    def _tell(self, name: str, what: str) -> str:
        try:
            log = self._rpc.readProcessStdoutLog(name, -_LOG_BYTES, 0)
        except xmlrpc.client.Fault as error:
            log = error.faultString
        return f"{name} {what} ready. The last lines of its log:\n{log.rstrip()}"


def _name(one: dict[str, str]) -> str:
    return one["name"] if one["name"] == one["group"] else f"{one['group']}:{one['name']}"


def bring(  # noqa: PLR0913  what the module takes
    waves: list[list[str]],
    path: str,
    ready_timeout: float,
    *,
    check_mode: bool,
    settle: float = 0,
    restart: Sequence[str] = (),
) -> dict[str, Any]:
    """Restart what is stale, wave by wave, stop what is left over, and tell both."""
    names = [name for wave in waves for name in wave]
    if check_mode and not os.path.exists(path):
        return {"changed": True, "restarted": names, "stopped": []}
    with closing(Programs(path, ready_timeout)) as programs:
        programs.read()
        states = programs.states()
        reasons = {name: programs.stale(name, states) or ("asked for" if name in restart else None) for name in names}
        due, leftover = [name for name in names if reasons[name]], programs.removed
        if not check_mode:
            started: dict[str, int] = {}
            for wave in waves:
                # What runs is not given up for what has not held for as long as the waves before.
                programs.settle(started, 0)
                # Looked at anew: a program is restarted as a whole when its configuration has changed.
                states = programs.states()
                if wanted := [name for name in wave if name in restart or programs.stale(name, states)]:
                    programs.restart(wanted)
                programs.wait(wave)
                started |= programs.pids([name for name in wave if name in due])
            if due:
                programs.settle(started, settle)
            programs.remove(leftover)
    return {
        "changed": bool(due or leftover),
        "restarted": due,
        "stopped": leftover,
        "diff": {"after": "".join(f"{name}: {reasons[name]}\n" for name in due), "before": ""},
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "waves": {"type": "list", "elements": "list", "required": True},
            "socket": {"type": "path", "default": "/run/drumline-supervisor/supervisor.sock"},
            "ready_timeout": {"type": "int", "default": 630},
            "settle": {"type": "int", "default": 0},
            "restart": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    waves, path, ready_timeout, settle, restart = (
        module.params[name] for name in ("waves", "socket", "ready_timeout", "settle", "restart")
    )
    try:
        done = bring(waves, path, ready_timeout, check_mode=module.check_mode, settle=settle, restart=restart)
        module.exit_json(**done)
    except ProgramError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
