"""Where the time of a run went, by the step of the deploy or by role."""

from __future__ import annotations

DOCUMENTATION = """
name: steps
type: aggregate
short_description: Say where the time of a run went
description:
  - Prints the seconds of each step at the end of a run. A step of a deploy is a task file of the role app_release; elsewhere
    it is the role, or the playbook. What takes less than half a second is left out.
  - Says what to do about a host that was lost on the way.
author: Drumline
"""

import re
import time
from collections import defaultdict
from typing import TYPE_CHECKING

from ansible.plugins.callback import CallbackBase

if TYPE_CHECKING:
    from ansible.executor.stats import AggregateStats
    from ansible.playbook.task import Task

_STEP = re.compile(r"/roles/app_release/tasks/(\w+)\.yml")
_ROLE = re.compile(r"/roles/(\w+)/|/(\w+)\.yml:")
# Roles that are steps of a deploy go by the step's name.
_NAMES = {"app_services": "restart"}
_LEAST = 0.5


def step_of(path: str) -> str:
    """The step that a task belongs to, by the file that holds the task."""
    if found := _STEP.search(path):
        return found[1]
    found = _ROLE.search(path)
    name = found[1] or found[2] if found else "other"
    return _NAMES.get(name, name)


def told(seconds: dict[str, float]) -> str:
    """One line for a person, in the order of the run."""
    steps = [f"{step} {spent:.1f}" for step, spent in seconds.items() if spent >= _LEAST]
    return f"{sum(seconds.values()):.0f} s: {', '.join(steps)}"


def lost(host: str) -> str:
    """What a person does about a host that cannot be reached."""
    return (
        f"{host} cannot be reached. Its processes run on. Check that it is up: ssh {host}\n"
        "When it answers, run the same playbook again: it finishes what this run began there."
    )


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """The callback `steps`."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "steps"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._seconds: dict[str, float] = defaultdict(float)
        self._running = "start"
        self._since = time.monotonic()

    def _begin(self, step: str) -> None:
        now = time.monotonic()
        self._seconds[self._running] += now - self._since
        self._running, self._since = step, now

    def v2_playbook_on_task_start(self, task: Task, is_conditional: bool) -> None:  # noqa: FBT001  Ansible's signature
        """Count what follows as the task's step."""
        del is_conditional
        self._begin(step_of(task.get_path() or ""))

    def v2_playbook_on_handler_task_start(self, task: Task) -> None:
        """Count a handler as a task."""
        self._begin(step_of(task.get_path() or ""))

    def v2_playbook_on_stats(self, stats: AggregateStats) -> None:
        """Print the lines."""
        self._begin("")
        for host in sorted(stats.processed):
            if stats.summarize(host)["unreachable"]:
                self._display.display(lost(host))
        self._display.display(f"Took {told(dict(self._seconds))}")
