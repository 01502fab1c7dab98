"""queues: show the depth and the workers of each queue, and move waiting tasks to another queue."""

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from drumline.application import application
from drumline.broker.depth import queue_depths
from drumline.ledger import operators
from drumline.ledger.selectors import (
    QueueState,
    queue_states,
    served_queues,
    unserved_message,
    unserved_queues,
)
from drumline.management.commands.dead_letters import operator
from drumline.management.queue_names import known_queue, queue_to_send_to


class Command(BaseCommand):
    """Every declared queue, and every other one that holds something."""

    help = "List queues with their depth in the broker, tasks in the ledger, oldest age, and living workers."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare --json, --check and the verb move."""
        parser.add_argument("--json", action="store_true", help="print one JSON object")
        parser.add_argument(
            "--check", action="store_true", help="fail if tasks wait in a queue that no living worker consumes"
        )
        verbs = parser.add_subparsers(dest="verb", metavar="move")
        verb = verbs.add_parser("move", help="move waiting tasks to another queue")
        verb.add_argument("source", metavar="FROM", help="queue that the tasks wait in, declared or not")
        verb.add_argument("target", metavar="TO", help="queue to send them to instead")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Ask the ledger, the workers' signs of life and the broker; without the broker the rest is printed."""
        if options["verb"] == "move":
            self._move(options["source"], options["target"])
            return
        states, workers = queue_states(), served_queues()
        names = sorted({*application().amqp.queues, *states, *workers})
        depths = self._depths(names)
        report = {
            name: {"depth": depths.get(name), **states.get(name, QueueState()).as_json(), "workers": workers[name]}
            for name in names
        }
        self.stdout.write(json.dumps(report) if options["json"] else _readable(report))
        if options["check"] and (unserved := unserved_queues()):
            raise CommandError(unserved_message(unserved))

    def _move(self, source: str, target: str) -> None:
        queue_to_send_to(target)
        if source == target:
            raise CommandError(f"Both queues are {source}; nothing was changed.")
        moved = operators.move(known_queue(source), application().amqp.queues[target], by=operator())
        self.stdout.write(f"Moved {moved} tasks from {source} to {target}.")

    def _depths(self, names: list[str]) -> dict[str, int]:
        try:
            return queue_depths(names)
        except Exception as error:  # noqa: BLE001  each transport has errors of its own, and the rest is still worth it
            self.stderr.write(f"The broker does not answer: {type(error).__name__}: {error}")
            return {}


def _readable(report: dict[str, dict[str, Any]]) -> str:
    lines = [
        f"{'queue':16}{'broker':>8}{'waiting':>9}{'delayed':>9}{'running':>9}{'dead':>7}{'workers':>9}{'oldest':>12}"
    ]
    for name, queue in report.items():
        depth = "?" if queue["depth"] is None else queue["depth"]
        oldest = "" if queue["oldest_age"] is None else f"{queue['oldest_age']:.1f} s"
        lines.append(
            f"{name:16}{depth:>8}{queue['waiting']:>9}{queue['delayed']:>9}{queue['running']:>9}{queue['dead']:>7}"
            f"{queue['workers']:>9}{oldest:>12}"
        )
    return "\n".join(lines)
