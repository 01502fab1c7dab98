"""queues: how deep each queue is in the broker and in the ledger, and who serves it."""

import json
from argparse import ArgumentParser
from collections import Counter
from typing import Any

from celery import current_app
from django.core.management.base import BaseCommand

from drumline.ledger.selectors import QueueState, queue_states, workers_alive
from drumline.relay.depth import queue_depths


class Command(BaseCommand):
    """Every declared queue, and every other one that holds something."""

    help = "List the queues: depth in the broker, waiting in the ledger, oldest age, workers alive."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare --json."""
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Ask the ledger, the workers' signs of life and the broker; without the broker the rest is printed."""
        states = queue_states()
        workers: Counter[str] = Counter(
            queue for worker in workers_alive() for queue in worker.queues.replace(",", " ").split()
        )
        names = sorted({*current_app.amqp.queues, *states, *workers})
        depths = self._depths(names)
        report = {
            name: {"depth": depths.get(name), **states.get(name, QueueState()).as_json(), "workers": workers[name]}
            for name in names
        }
        self.stdout.write(json.dumps(report) if options["json"] else _readable(report))

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
