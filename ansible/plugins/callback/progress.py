"""What a run changes and how long it has taken, one line each: the output of the command `drumline`."""

from __future__ import annotations

DOCUMENTATION = """
name: progress
type: stdout
short_description: One line for each play, change and failure, with the elapsed time
description:
  - Tasks that change nothing are not shown. A verbose run is shown as Ansible shows it.
  - Writes the name of the task that runs to the file descriptor in DRUMLINE_PROGRESS, from which the command shows it.
extends_documentation_fragment: [default_callback, result_format_callback]
author: Drumline
"""

import contextlib
import os
import time
from typing import Any

from ansible.plugins.callback.default import CallbackModule as Default

from ansible import constants

# Results of a failure that its message already says, or that say nothing to a person.
_SAID = {"msg", "changed", "failed", "failed_when_result", "exception", "invocation"}
_CLEAR_LINE = "\r\x1b[K"


class CallbackModule(Default):
    """The stdout callback `progress`."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "progress"

    def __init__(self) -> None:
        super().__init__()
        self._started = time.monotonic()
        self._descriptor = int(os.environ.get("DRUMLINE_PROGRESS", "-1"))
        self._shown: set[tuple[str, str]] = set()

    def v2_playbook_on_start(self, playbook: Any) -> None:
        """Begin without a banner."""

    def v2_playbook_on_play_start(self, play: Any) -> None:
        """Name the play."""
        if self._is_verbose():
            super().v2_playbook_on_play_start(play)
        elif play.name:
            self._say(f"{self._clock()}  {play.name}", constants.COLOR_HIGHLIGHT)

    def v2_playbook_on_no_hosts_matched(self) -> None:
        """Say nothing: an inventory leaves out the groups that it does not use."""

    def v2_playbook_on_task_start(self, task: Any, is_conditional: Any) -> None:
        """Tell the command what runs now."""
        if self._is_verbose():
            super().v2_playbook_on_task_start(task, is_conditional)
        elif self._descriptor >= 0:
            # The command has ended; the run goes on.
            with contextlib.suppress(OSError):
                os.write(self._descriptor, f"{task.get_name()}\n".encode())

    def v2_playbook_on_handler_task_start(self, task: Any) -> None:
        """Tell the command what runs now."""
        self.v2_playbook_on_task_start(task, is_conditional=False)

    def v2_runner_on_ok(self, result: Any) -> None:
        """Show what changed."""
        if self._is_verbose() or self._run_is_verbose(result):
            super().v2_runner_on_ok(result)
        elif result.result.get("changed", False):
            self._changed(result)

    def v2_runner_item_on_ok(self, result: Any) -> None:
        """Show a loop's change once, when the loop is done."""
        if self._is_verbose():
            super().v2_runner_item_on_ok(result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:  # noqa: FBT001, FBT002 - Ansible's
        """Show a failure's message as it was written."""
        # Those of Ansible's own are never shown; a task that is delegated has more of them.
        known = {name: value for name, value in result.result.items() if not name.startswith("_ansible_")}
        if self._is_verbose() or ignore_errors or "msg" not in known or set(known) - _SAID:
            self._say(f"{self._clock()}  ✗ {result.task.get_name()}", constants.COLOR_ERROR)
            super().v2_runner_on_failed(result, ignore_errors=ignore_errors)
            return
        self._say(f"{self._clock()}  ✗ {result.host.get_name()}: {result.task.get_name()}", constants.COLOR_ERROR)
        message = (result.task.get_name(), str(known["msg"]))
        # What is wrong with the project is so on each of fifty hosts.
        for line in ["As above."] if message in self._shown else message[1].splitlines():
            self._say(f"        {line}")
        self._shown.add(message)

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """Count the changes of each host."""
        if self._is_verbose():
            super().v2_playbook_on_stats(stats)
            return
        for host in sorted(stats.processed):
            numbers = stats.summarize(host)
            bad = numbers["failures"] or numbers["unreachable"]
            said = f"{numbers['ok']} checked, {numbers['changed']} changed" + (f", {bad} failed" if bad else "")
            self._say(f"{self._clock()}  {host}: {said}", constants.COLOR_ERROR if bad else constants.COLOR_OK)

    def _print_task_banner(self, task: Any) -> None:
        if self._is_verbose():
            super()._print_task_banner(task)

    def _changed(self, result: Any) -> None:
        line = (result.host.get_name(), result.task.get_name())
        # Hosts change at their own pace, and a role may run twice.
        if line not in self._shown:
            self._shown.add(line)
            self._say(f"{self._clock()}    {line[0]}  {line[1]}", constants.COLOR_CHANGED)

    def _is_verbose(self) -> bool:
        return int(self._display.verbosity) > 0

    def _clock(self) -> str:
        seconds = int(time.monotonic() - self._started)
        return f"{seconds // 60:3}:{seconds % 60:02}"

    def _say(self, text: str, color: str | None = None) -> None:
        # The command draws the running task on the last line of a terminal.
        clear = _CLEAR_LINE if self._descriptor >= 0 and os.isatty(2) else ""
        self._display.display(clear + text, color=color)
