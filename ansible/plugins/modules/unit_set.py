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
  - Waves are restarted one after the other, the units of one wave together, and each wave must be active
    before the next begins. That is what keeps a queue served - put its instances in different waves.
  - Active units that match I(owned) and are in no wave are stopped.
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
author: Drumline
"""

RETURN = """
restarted: {description: Units that were started or restarted., type: list, returned: always}
stopped: {description: Units that were stopped., type: list, returned: always}
"""

import os
import time

from ansible.module_utils.basic import AnsibleModule

_PROPERTIES = (
    "Id,ActiveState,FragmentPath,DropInPaths,EnvironmentFiles,WorkingDirectory,"
    "ActiveEnterTimestampMonotonic,ExecMainStartTimestampMonotonic"
)
_JOURNAL_LINES = "25"


class Units:
    """systemctl as this module needs it: few calls, each about many units."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module

    def run(self, *arguments: str, check: bool = True) -> str:
        """What systemctl prints; a failure of it ends the module."""
        code, out, err = self.module.run_command(["systemctl", "--no-ask-password", *arguments])
        if check and code != 0:
            self.module.fail_json(msg=f"systemctl {' '.join(arguments)}: {err.strip() or out.strip()}")
        return out

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

    def active(self, patterns: list[str]) -> list[str]:
        """Units that match and run, or are about to."""
        if not patterns:
            return []
        out = self.run("list-units", "--plain", "--no-legend", "--state=active,activating,reloading", *patterns)
        return [line.split()[0] for line in out.splitlines() if line.strip()]


def _made_of(unit: dict[str, str]) -> list[str]:
    environment = [line.rsplit(" (", 1)[0] for line in unit.get("EnvironmentFiles", "").splitlines()]
    directory = unit.get("WorkingDirectory", "")
    release = [directory] if os.path.islink(directory) else []
    return [path for path in [unit["FragmentPath"], *unit["DropInPaths"].split(), *environment, *release] if path]


def _stale(unit: dict[str, str]) -> str | None:
    """Why a unit must be restarted, or None."""
    if unit["ActiveState"] != "active":
        return unit["ActiveState"]
    started = int(unit.get("ExecMainStartTimestampMonotonic") or 0) or int(unit["ActiveEnterTimestampMonotonic"])
    started_at = time.time() - time.clock_gettime(time.CLOCK_MONOTONIC) + started / 1e6
    for path in _made_of(unit):
        # lstat: a link that was switched is newer, whatever it points to.
        if os.path.lexists(path) and os.lstat(path).st_mtime > started_at:
            return f"{path} is newer"
    return None


def _fail(module: AnsibleModule, failed: list[str]) -> None:
    told = []
    for name in failed:
        _, journal, _ = module.run_command(
            ["journalctl", "--no-pager", "--quiet", "--output=cat", f"--lines={_JOURNAL_LINES}", f"--unit={name}"]
        )
        told.append(f"{name} did not become active. Its journal ends:\n{journal.rstrip()}")
    module.fail_json(
        msg="\n\n".join(told) + "\n\nMend the cause and run the playbook again: it goes on from here.",
        failed=failed,
    )


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "waves": {"type": "list", "elements": "list", "required": True},
            "owned": {"type": "list", "elements": "str", "default": []},
            "enabled": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    units = Units(module)
    waves = [wave for wave in module.params["waves"] if wave]
    names = [name for wave in waves for name in wave]

    # Any unit of the host: a slice or the target that changed is in no wave.
    if not module.check_mode and "=yes" in units.run("show", "--property=NeedDaemonReload", "*"):
        units.run("daemon-reload")
    shown = units.show(names)
    reasons = {name: _stale(shown[name]) for name in names}
    due = [name for name in names if reasons[name]]
    leftover = sorted(set(units.active(module.params["owned"])) - set(names))
    # Started and never restarted: a target would take all of its units with it.
    targets = [
        name
        for name in module.params["enabled"]
        if units.run("is-enabled", name, check=False).strip() != "enabled"
        or units.run("is-active", name, check=False).strip() != "active"
    ]

    if not module.check_mode:
        for wave in waves:
            wanted = [name for name in wave if name in due]
            if not wanted:
                continue
            units.run("reset-failed", *wanted, check=False)
            units.run("restart", *wanted, check=False)
            after = units.show(wanted)
            failed = [name for name in wanted if after[name]["ActiveState"] != "active"]
            if failed:
                _fail(module, failed)
        if leftover:
            units.run("stop", *leftover)
        if targets:
            units.run("enable", "--now", *targets)

    module.exit_json(
        changed=bool(due or leftover or targets),
        restarted=due,
        stopped=leftover,
        enabled=targets,
        diff={"after": "".join(f"{name}: {reasons[name]}\n" for name in due), "before": ""},
    )


if __name__ == "__main__":
    main()
