#!/usr/bin/python
"""Bring a set of systemd units to run what is on the disk."""

from __future__ import annotations

DOCUMENTATION = """
module: unit_set
short_description: Bring a set of systemd units to run what is on the disk
description:
  - A unit is stale when it is not active, or when something that it is made of is newer than its process -
    its unit file, its drop-ins, its environment files, or its working directory when that is a link, as the link
    to the current release is. Only stale units are restarted, so a run with nothing new touches nothing, and a
    run that follows a failed one finishes its work.
  - An open socket is stale only when its place, owner or mode is not that of its unit. What else its unit says takes effect when
    systemd loads it, apart from the backlog, which waits for the next boot.
  - Waves are restarted one after the other, the units of one wave together, and each wave must be active
    before the next begins. That is what keeps a queue served - put its instances in different waves.
  - Each restarted unit must stay up on the same main process while the waves after it are restarted, and until the last one
    has been up for I(settle) seconds and the first for I(watch) seconds; a unit of I(steady) must keep its child processes as
    well, since gunicorn replaces those that crash and stays up itself. A later call waits for that with I(restarted), beside what happens meanwhile.
  - Units that match I(owned) and are in no wave and not in I(enabled) are stopped, as their own definition says, and
    disabled. Their files must still be there - ExecStop reads the environment files too.
options:
  waves:
    description: Lists of unit names in the order of their restart.
    type: list
    elements: list
    required: true
  owned:
    description: Patterns of unit names that belong to this set alone.
    type: list
    elements: str
    default: []
  enabled:
    description: Targets to start now and at boot; they are never restarted.
    type: list
    elements: str
    default: []
  settle:
    description: Seconds that what was restarted must have been up.
    type: int
    default: 0
  watch:
    description: Seconds that the first of what was restarted must have been up.
    type: int
    default: 0
  restart:
    description: Units of the waves to restart although they are not stale.
    type: list
    elements: str
    default: []
  stand_ins:
    description:
      - A stand-in unit for each unit that may drain for longer than anybody waits. When the unit still drains after
        I(patience) seconds, it is left to that; it starts again by itself afterwards. Its stand-in is started
        meanwhile. One that no unit needs is stopped, and a stale one that is needed is restarted.
      - Units that share a stand-in serve the same. Where all but one of them drain, that one is left as it is, and is restarted
        by drumline-relieve when another is up.
    type: dict
    default: {}
  held_back:
    description: Folder with a file for each unit that drumline-relieve is to restart.
    type: str
    default: /run/drumline-held-back
  patience:
    description: Seconds to wait for a unit that has a stand-in.
    type: int
    default: 0
  steady:
    description: Units whose child processes must also stay the same while they settle.
    type: list
    elements: str
    default: []
  restarted:
    description: What an earlier call returned as I(processes), which must stay up as what this call restarts must.
    type: dict
    default: {}
author: Drumline
"""

EXAMPLES = """
- name: Run the workers and beat, each queue served all the while, and stop what else of Drumline runs
  unit_set:
    waves:
      - [drumline-worker@high-1.service, drumline-worker@low-1.service]
      - [drumline-worker@high-2.service, drumline-worker@low-2.service]
      - [drumline-beat.service]
    owned: [drumline-worker@*.service, drumline-beat.service]
    enabled: [drumline.target]
    settle: 10
"""

RETURN = """
draining:
  description:
    - Units that still run what they were started from. Each starts again by itself, when it has drained or, where it alone serves,
      as soon as another unit does.
  type: list
  returned: always
changed: {description: Whether anything was restarted, stopped or enabled., type: bool, returned: always}
diff: {description: Why each unit was or would be restarted., type: dict, returned: always}
enabled: {description: Targets that were enabled and started., type: list, returned: always}
processes:
  description: Main process and child processes of each unit that was restarted by this call, or by the one that I(restarted) is of.
  type: dict
  returned: always
units: {description: Units that did not become or stay active., type: list, returned: on failure}
restarted: {description: Units that were started or restarted., type: list, returned: always}
stopped: {description: Units that were stopped., type: list, returned: always}
"""

import os
import pwd
import stat
import time
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

_PROPERTIES = (
    "Id,ActiveState,Job,MainPID,NRestarts,FragmentPath,DropInPaths,EnvironmentFiles,WorkingDirectory,"
    "ActiveEnterTimestampMonotonic,ExecMainStartTimestampMonotonic,Listen,SocketUser,SocketMode"
)
# Of a unit that is stopped for good, "failed" may be how a start that never ended is seen.
_UP = "active,activating,reloading,deactivating,failed"
_DOWN = ("inactive", "failed")
_JOURNAL_LINES = "20"
# How `timeout` ends when the time is over.
_TIMED_OUT = 124
# Seconds between two looks at units that settle.
_LOOK = 0.5
# Seconds of the journal that may tell why a unit ended that was restarted by an earlier call.
_RECENT = 300


class Units:
    """systemctl as this module needs it: few calls, each about many units."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module

    def run(self, *arguments: str, check: bool = True) -> str:
        """What systemctl prints; a failure of it ends the module."""
        code, out, err = self.module.run_command(["systemctl", "--no-ask-password", *arguments])
        if check and code != 0:
            self.module.fail_json(msg=f"systemctl {' '.join(arguments)}: {err.strip() or out.strip()}")
        return str(out)

    def wait(self, seconds: int, *arguments: str) -> bool:
        """Whether systemctl was done within so many seconds; 0 waits for as long as it takes. What it asked for goes on."""
        code, _, _ = self.module.run_command(["timeout", str(seconds), "systemctl", "--no-ask-password", *arguments])
        return bool(code != _TIMED_OUT)

    def show(self, names: list[str]) -> dict[str, dict[str, str]]:
        """The properties of units by name; a property that comes in several lines keeps them."""
        shown = {}
        for block in self.run("show", f"--property={_PROPERTIES}", *names).strip().split("\n\n"):
            properties: dict[str, str] = {}
            for line in block.splitlines():
                key, _, value = line.partition("=")
                properties[key] = f"{properties[key]}\n{value}" if key in properties else value
            shown[properties["Id"]] = properties
        return shown

    def up(self, patterns: list[str]) -> list[str]:
        """Units that match and run, are about to, or have failed."""
        if not patterns:
            return []
        out = self.run("list-units", "--plain", "--no-legend", f"--state={_UP}", *patterns)
        return [line.split()[0] for line in out.splitlines() if line.strip()]


def _made_of(unit: dict[str, str]) -> list[str]:
    environment = [line.rsplit(" (", 1)[0] for line in unit.get("EnvironmentFiles", "").splitlines()]
    directory = unit.get("WorkingDirectory", "")
    release = [directory] if os.path.islink(directory) else []
    return [path for path in [unit["FragmentPath"], *unit["DropInPaths"].split(), *environment, *release] if path]


def _is_bound(unit: dict[str, str]) -> bool:
    """Whether a socket is where its unit says, and whose; a restart would refuse everybody who waits in it."""
    try:
        found = os.stat(unit["Listen"].removesuffix(" (Stream)"))
    except OSError:
        return False
    mode, owner = f"{stat.S_IMODE(found.st_mode):04o}", pwd.getpwuid(found.st_uid).pw_name
    return stat.S_ISSOCK(found.st_mode) and (mode, owner) == (unit["SocketMode"], unit["SocketUser"] or "root")


def _stale(unit: dict[str, str]) -> str | None:
    """Why a unit must be restarted, or None."""
    if unit["ActiveState"] != "active":
        return unit["ActiveState"]
    if "Listen" in unit:
        return None if _is_bound(unit) else f"{unit['Listen']} is not as its unit says"
    started = int(unit.get("ExecMainStartTimestampMonotonic") or 0) or int(unit["ActiveEnterTimestampMonotonic"])
    started_at = time.time() - time.clock_gettime(time.CLOCK_MONOTONIC) + started / 1e6
    for path in _made_of(unit):
        # lstat: a link that was switched is newer, whatever it points to.
        if os.path.lexists(path) and os.lstat(path).st_mtime > started_at:
            return f"{path} is newer"
    return None


def _children(pid: str) -> set[str]:
    """The child processes of a process."""
    children = set()
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat", encoding="ascii", errors="replace") as handle:
                    parent = handle.read().rsplit(")", 1)[1].split()[1]
            except OSError:
                continue
            if parent == pid:
                children.add(entry)
    return children


# Main process of a unit that is up since its start, and its children where these must stay.
Processes = tuple[str, set[str]]
_NONE: Processes = ("", set())


def _processes(units: Units, names: list[str], steady: list[str]) -> dict[str, Processes]:
    if not names:
        return {}
    return {
        name: (unit.get("MainPID", "0"), _children(unit["MainPID"]) if name in steady else set())
        # A socket has neither a main process nor restarts.
        if unit["ActiveState"] == "active" and unit.get("NRestarts", "0") == "0"
        else _NONE
        for name, unit in units.show(names).items()
    }


def _fallen(units: Units, before: dict[str, Processes], steady: list[str]) -> dict[str, str]:
    """What happened, by name, to the units that did not stay up."""
    fallen = {}
    now = _processes(units, list(before), steady)
    for name, (pid, children) in before.items():
        pid_now, children_now = now.get(name, _NONE)
        if not pid or pid != pid_now:
            fallen[name] = "ended soon after its start"
        elif children - children_now:
            fallen[name] = "lost processes soon after its start"
    return fallen


def _settle(
    units: Units, before: dict[str, Processes], steady: list[str], settle: float, watch: float
) -> dict[str, str]:
    """Look at them until each has been up for `settle` seconds, and the first for `watch`."""
    entered = [int(unit["ActiveEnterTimestampMonotonic"]) / 1e6 for unit in units.show(list(before)).values()]
    deadline = max(max(entered) + settle, min(entered) + watch)
    while True:
        fallen = _fallen(units, before, steady)
        left = deadline - time.monotonic()
        if fallen or left <= 0:
            return fallen
        time.sleep(min(_LOOK, left))


def _has_job(unit: dict[str, str]) -> bool:
    return unit.get("Job", "0") not in ("", "0")


def _is_draining(unit: dict[str, str]) -> bool:
    """Whether a unit stops, to start again afterwards."""
    return unit["ActiveState"] == "deactivating" and _has_job(unit)


def _bring_up(units: Units, wave: list[str], stand_ins: dict[str, str], patience: int) -> list[str]:
    """Restart units; return those of them that still drain after `patience` seconds and have a stand-in."""
    limit = patience if stand_ins.keys() & set(wave) else 0
    if units.wait(limit, "restart", *wave):
        return []
    while True:
        now = units.show(wave)
        draining = [name for name in wave if _is_draining(now[name]) and name in stand_ins]
        awaited = [name for name in wave if _has_job(now[name]) and name not in draining]
        if not awaited:
            return draining
        # One that has drained meanwhile starts, and is waited for in the next round.
        units.wait(limit, "start", *awaited)


def _stand_in(module: AnsibleModule, units: Units, draining: list[str]) -> list[str]:
    """Start the stand-ins of what drains; return them. One that is up or drains is let be: it has work of its own."""
    names = sorted({module.params["stand_ins"][name] for name in draining})
    down = [name for name in names if units.show([name])[name]["ActiveState"] in _DOWN]
    if down:
        _start(module, units, down, time.time())
    return down


def _start(module: AnsibleModule, units: Units, stand_ins: list[str], since: float) -> None:
    units.run("reset-failed", *stand_ins, check=False)
    units.run("start", *stand_ins, check=False)
    # One that stops has been relieved: the instances are back already.
    failed = [name for name, unit in units.show(stand_ins).items() if unit["ActiveState"] in ("activating", "failed")]
    if failed:
        _fail(module, dict.fromkeys(failed, "did not become active"), since)


def _hold_back(module: AnsibleModule, units: Units, due: list[str], since: float) -> tuple[list[str], list[str]]:
    """Return those of the units that alone serve what they serve, and the stand-ins that were started for others."""
    stand_ins = module.params["stand_ins"]
    held: list[str] = []
    begun: list[str] = []
    marks = Path(module.params["held_back"])
    _let_go(marks, due)
    for stand_in in sorted({stand_ins.get(name, name) for name in due} & set(stand_ins.values())):
        serving = [stand_in, *(name for name, other in stand_ins.items() if other == stand_in)]
        while True:
            now = units.show(serving)
            up = {name for name, unit in now.items() if unit["ActiveState"] == "active"}
            starting = [name for name, unit in now.items() if unit["ActiveState"] == "activating" and _has_job(unit)]
            if not up or up - set(due):
                # What was up has another beside it, which may have come up just now.
                _let_go(marks, [name for name in held if name in serving])
                held = [name for name in held if name not in serving]
                break
            if starting:
                units.wait(0, "start", *starting)
            elif now[stand_in]["ActiveState"] in _DOWN:
                _start(module, units, [stand_in], since)
                begun.append(stand_in)
            elif up <= set(held):
                break
            else:
                # Looked at once more: what comes up from now on finds that it is to restart them.
                held += sorted(up)
                marks.mkdir(exist_ok=True)
                for name in up:
                    (marks / name).touch()
    return held, begun


def _let_go(marks: Path, names: list[str]) -> None:
    for name in names:
        (marks / name).unlink(missing_ok=True)


def _renew_stand_ins(
    module: AnsibleModule, units: Units, needed: set[str], since: float
) -> tuple[list[str], list[str]]:
    """Restart stand-ins that are stale while others serve, without waiting; return those that alone serve, and the restarted."""
    shown = units.show(sorted(needed)) if needed else {}
    stale = [name for name, unit in shown.items() if unit["ActiveState"] == "active" and _stale(unit)]
    held, _ = _hold_back(module, units, stale, since)
    renewed = [name for name in stale if name not in held]
    if renewed:
        units.run("restart", "--no-block", *renewed)
    return held, renewed


def _restart(
    module: AnsibleModule, units: Units, due: list[str], draining: list[str], seen: dict[str, Processes]
) -> tuple[dict[str, Processes], list[str], list[str]]:
    """Restart what is due, wave by wave; return what was started, which stand-ins were, and what runs on as it is."""
    since, stand_ins, steady = time.time(), module.params["stand_ins"], module.params["steady"]
    if seen:
        since -= _RECENT
    started = dict(seen)
    beside = _stand_in(module, units, draining)
    behind, renewed = _renew_stand_ins(module, units, {stand_ins[name] for name in draining} - set(beside), since)
    beside += renewed
    for wave in module.params["waves"]:
        wanted = [name for name in wave if name in due]
        if not wanted:
            continue
        # What runs is not given up for what has not held for as long as the waves before.
        if fallen := _fallen(units, started, steady):
            _fail(module, fallen, since)
        held, begun = _hold_back(module, units, wanted, since)
        behind, beside = behind + held, beside + begun
        wanted = [name for name in wanted if name not in held]
        if not wanted:
            continue
        units.run("reset-failed", *wanted, check=False)
        slow = _bring_up(units, wanted, stand_ins, module.params["patience"])
        draining = draining + slow
        beside += _stand_in(module, units, slow)
        after = units.show(wanted)
        failed = [name for name in wanted if name not in slow and after[name]["ActiveState"] != "active"]
        if failed:
            _fail(module, dict.fromkeys(failed, "did not become active"), since)
        started |= _processes(units, [name for name in wanted if name not in slow], steady)
    if started and (fallen := _settle(units, started, steady, module.params["settle"], module.params["watch"])):
        _fail(module, fallen, since)
    return started, beside, draining + behind


def _fail(module: AnsibleModule, failed: dict[str, str], since: float) -> None:
    reports = []
    for name, what in failed.items():
        _, journal, _ = module.run_command(
            [
                *["journalctl", "--no-pager", "--quiet", "--output=cat", f"--lines={_JOURNAL_LINES}"],
                *[f"--since=@{int(since)}", f"--unit={name}"],
            ]
        )
        reports.append(f"{name} {what}. The last lines of its journal:\n{journal.rstrip()}")
    module.fail_json(msg="\n\n".join(reports), units=list(failed))


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "waves": {"type": "list", "elements": "list", "required": True},
            "owned": {"type": "list", "elements": "str", "default": []},
            "enabled": {"type": "list", "elements": "str", "default": []},
            "settle": {"type": "int", "default": 0},
            "watch": {"type": "int", "default": 0},
            "steady": {"type": "list", "elements": "str", "default": []},
            "restart": {"type": "list", "elements": "str", "default": []},
            "stand_ins": {"type": "dict", "default": {}},
            "patience": {"type": "int", "default": 0},
            "held_back": {"type": "str", "default": "/run/drumline-held-back"},
            "restarted": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    units = Units(module)
    seen = {name: (pid, set(children)) for name, (pid, children) in module.params["restarted"].items()}
    waves = [wave for wave in module.params["waves"] if wave]
    names = [name for wave in waves for name in wave]

    # Any unit of the host: a slice or the target that changed is in no wave. All of them: without --all only active
    # units are shown, and a stopped one would start later by its old definition.
    if not module.check_mode and "=yes" in units.run("show", "--all", "--property=NeedDaemonReload", "*"):
        units.run("daemon-reload")
    shown = units.show(names) if names else {}
    stand_ins = module.params["stand_ins"]
    # What drains already starts again by itself, by the files that are there then.
    draining = [name for name in names if _is_draining(shown[name]) and name in stand_ins]
    asked = dict.fromkeys(module.params["restart"], "asked for")
    reasons = {name: _stale(shown[name]) or asked.get(name) for name in names if name not in draining}
    due = [name for name in names if reasons.get(name)]
    up = set(units.up(module.params["owned"]))
    leftover = sorted(up - set(names) - set(module.params["enabled"]) - set(stand_ins.values()))
    # Started and never restarted: a target would take all of its units with it.
    targets = [
        name
        for name in module.params["enabled"]
        if units.run("is-enabled", name, check=False).strip() != "enabled"
        or units.run("is-active", name, check=False).strip() != "active"
    ]

    changed = bool(due or leftover or targets)
    started: dict[str, Processes] = {}
    if not module.check_mode:
        started, beside, draining = _restart(module, units, due, draining, seen)
        due = [*(name for name in started if name not in seen), *beside]
        idle = up & set(stand_ins.values()) - {stand_ins.get(name) for name in draining}
        if idle:
            units.run("stop", "--no-block", *sorted(idle))
        if leftover:
            units.run("stop", *leftover)
            units.run("disable", "--quiet", *leftover, check=False)
            units.run("reset-failed", *leftover, check=False)
        if targets:
            units.run("enable", "--now", *targets)

    module.exit_json(
        changed=changed,
        draining=draining,
        processes={name: [pid, sorted(children)] for name, (pid, children) in started.items()},
        restarted=due,
        stopped=leftover,
        enabled=targets,
        diff={"after": "".join(f"{name}: {reasons.get(name, 'stands in')}\n" for name in due), "before": ""},
    )


if __name__ == "__main__":
    main()
