"""Whether a run does what was asked for, where Ansible would do something else and end green."""

from __future__ import annotations

DOCUMENTATION = """
name: asked
type: aggregate
short_description: Refuse a run that would not do what was asked for
description:
  - Refuses, before the first task, a tag that no task of the playbook has or that looks mistyped, an extra variable whose name looks mistyped, and one that
    is neither true nor false where it must be.
  - Has a run fail that no host took part in.
author: Drumline
"""

import difflib
from typing import TYPE_CHECKING

from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import filter_loader, lookup_loader
from ansible.utils.vars import load_extra_vars

from ansible import context
from ansible.plugins.callback import CallbackBase

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ansible.executor.stats import AggregateStats
    from ansible.playbook import Playbook

_TAGS_OF_ANSIBLE = {"all", "always", "never", "tagged", "untagged"}
# What belongs to Ansible, or is a project's secret.
_FOREIGN = ("ansible_", "vault_")
# From here on two names count as one of them mistyped: app_evn and app_env have 0.86.
_ALIKE = 0.8

NOBODY = (
    "Nothing was done: no host took part in this run. The inventory has none, or none in the groups that the playbook is for.\n"
    "See what it has: ansible-inventory --graph"
)


def unknown_tags(asked: Iterable[str], skipped: Iterable[str], tags: set[str]) -> list[str]:
    """One sentence for each tag that no task has. What is skipped may be so by convention, as Molecule's `notest` is."""
    mistyped = {tag for tag in skipped if _suggested(tag, tags)}
    return [
        f"No task has the tag {tag}.{_suggested(tag, tags)} The tags are {', '.join(sorted(tags - _TAGS_OF_ANSIBLE))}."
        for tag in sorted({*asked, *mistyped} - tags - _TAGS_OF_ANSIBLE)
    ]


def mistyped(given: Iterable[str], known: list[str]) -> list[str]:
    """One sentence for each variable that nothing reads, but that is almost one that is read."""
    return [
        f"No playbook reads {name}.{near} If it is a variable of your own, give it another name."
        for name in sorted({*given} - {*known})
        if not name.startswith(_FOREIGN) and (near := _suggested(name, known))
    ]


def _suggested(name: str, names: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, [*names], n=1, cutoff=_ALIKE)
    return f" Did you mean {near[0]}?" if near else ""


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """The callback `asked`."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "asked"
    CALLBACK_NEEDS_ENABLED = True

    def v2_playbook_on_start(self, playbook: Playbook) -> None:
        """Raise SystemExit if a tag or a variable does not exist."""
        problems = []
        asked, skipped = context.CLIARGS["tags"], context.CLIARGS["skip_tags"]
        if {*asked, *skipped} - _TAGS_OF_ANSIBLE:
            tasks = [task for play in playbook.get_plays() for block in play.compile() for task in block.get_tasks()]
            problems += unknown_tags(asked, skipped, {tag for task in tasks for tag in task.tags})
        if given := load_extra_vars(DataLoader()):
            known = lookup_loader.get("known_variables")
            problems += mistyped(given, known.run([]))
            # What is computed is known only within a play.
            switches = [name for name in known.switches() if name in given and "{{" not in str(given[name])]
            problems += filter_loader.get("switch_problems").j2_function(given, switches)
        if problems:
            self._end("\n".join(["Nothing was done.", *problems]))

    def v2_playbook_on_stats(self, stats: AggregateStats) -> None:
        """Raise SystemExit where no host took part."""
        if not stats.processed:
            self._end(NOBODY)

    def _end(self, why: str) -> None:
        self._display.error(why, wrap_text=False)
        # Of an error that a callback raises Ansible makes a warning.
        raise SystemExit(1)
