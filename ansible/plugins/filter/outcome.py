"""What went wrong in a deploy, as its reader needs it."""

from __future__ import annotations

import re
from textwrap import indent
from typing import Any

_APPLIED = re.compile(r"^\s*Applying (\S+?)\.\.\. OK", re.MULTILINE)
_HOOKS = ("before_build", "before_migrate", "before_switch", "deployed", "rejected")
_MIGRATIONS = 10
_LINES = 40
_ADVICE = "Fix the cause, then run the playbook again."
_NO_SPACE = "No space left on device"
_MAKE_ROOM = (
    "Make room, then run the playbook again. To see what is full: df -h / /opt/drumline. Fewer releases are kept with a lower"
    " app_release_keep, and journalctl --vacuum-size=500M removes old logs."
)
# Of a traceback: the failing frames and the error.
_TRACEBACK_LINES = 12


def failure(result: dict[str, Any], task: dict[str, Any]) -> dict[str, str]:
    """The step that failed, its reason and what to do, from what a rescue knows: the result and the task.

    The step of a command in a loop is the command. A host that Ansible ended for another one's failure has neither.
    """
    failed = [item for item in result.get("results") or [] if item.get("failed")] or [result]
    commands = [" ".join(map(str, item["item"])) for item in failed if isinstance(item.get("item"), list)]
    step = ", ".join(commands) or str(task.get("name") or "").rpartition(" : ")[2]
    why = "\n\n".join(map(reason, failed))
    return {"step": step, "reason": why, "advice": _MAKE_ROOM if _NO_SPACE in why else _ADVICE}


def failure_told(failed: dict[str, str], host: str = "") -> str:
    """What `failure` returned, for a message: the step, with the host if it is given, and the reason."""
    if not failed["reason"]:
        return "It failed on another host; see that host's message for the reason."
    return f"Failed{' on ' if host else ''}{host}: {failed['step']}\n\n{indent(failed['reason'], '  ')}"


def reason(result: dict[str, Any]) -> str:
    """The part of a failed task's result that says why: what a command printed, or else Ansible's own message."""
    said = str(result.get("stderr") or result.get("stdout") or result.get("msg") or result.get("censored") or "")
    lines = [line.rstrip() for line in said.strip().splitlines()]
    shown = _TRACEBACK_LINES if any(line.startswith("Traceback ") for line in lines) else _LINES
    left_out = len(lines) - shown
    return "\n".join([f"({left_out} lines left out)", *lines[-shown:]] if left_out > 0 else lines)


def migrations_applied(results: list[dict[str, Any]]) -> list[str]:
    """The migrations that Django's migrate says it applied, by the results of the commands."""
    return [name for result in results for name in _APPLIED.findall(str(result.get("stdout") or ""))]


def migrations_told(names: list[str]) -> str:
    """Migrations for a message: by their names, or of a first deploy by their number and their applications."""
    if len(names) <= _MIGRATIONS:
        return ", ".join(names)
    return f"{len(names)} migrations of {', '.join(dict.fromkeys(name.partition('.')[0] for name in names))}"


def hook_problems(hooks: dict[str, Any]) -> list[str]:
    """What is wrong with app_hooks: a moment that there is not, or a command that is no list of words."""
    problems = [
        f"app_hooks has the unknown key {name}. Known keys are {', '.join(_HOOKS)}. Correct or remove it."
        for name in hooks
        if name not in _HOOKS
    ]
    return problems + [
        f"app_hooks.{name} has {command!r}. Write each command as a list of arguments, such as [./notify, production]."
        for name, commands in hooks.items()
        for command in (commands if isinstance(commands, list) else [commands])
        if not isinstance(command, list) or not all(isinstance(word, str) for word in command) or not command
    ]


class FilterModule:
    """Names under which the playbooks use these functions."""

    def filters(self) -> dict[str, Any]:
        """The filters by name."""
        return {
            "failure": failure,
            "failure_told": failure_told,
            "hook_problems": hook_problems,
            "migrations_applied": migrations_applied,
            "migrations_told": migrations_told,
            "reason": reason,
        }
