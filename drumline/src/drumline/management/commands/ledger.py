"""ledger status: waiting, running and dead tasks, and whether the relay keeps up."""

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from drumline import conf
from drumline.health.heartbeats import publishing_age, relay_ages
from drumline.ledger.selectors import (
    queue_states,
    relay_lag,
    unserved_message,
    unserved_queues,
)
from drumline.ledger.store import store


class Command(BaseCommand):
    """Read nothing that grows with what is finished."""

    help = "Show the state of the ledger: ledger status."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the verb."""
        verbs = parser.add_subparsers(dest="verb", required=True, metavar="status")
        verb = verbs.add_parser(
            "status", help="show waiting, delayed, running and dead tasks per queue, and the relays"
        )
        verb.add_argument("--json", action="store_true", help="print one JSON object")
        verb.add_argument(
            "--max-lag",
            type=float,
            metavar="SECONDS",
            help="fail when a due task waits longer to be published while no relay publishes (default: "
            "DRUMLINE_MAX_PUBLISH_LAG, 60), and when no relay sent a heartbeat for as long, or tasks wait in a queue that "
            "no living worker consumes",
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        """Print, then judge."""
        queues, lag, relays = queue_states(), relay_lag(), relay_ages()
        report = {
            "queues": {name: queue.as_json() for name, queue in queues.items()},
            "relay_lag": lag,
            "relays": relays,
            "finished_estimate": store().finished_estimate(),
        }
        self.stdout.write(json.dumps(report) if options["json"] else _readable(report))
        limit = conf.max_publish_lag() if options["max_lag"] is None else options["max_lag"]
        published = publishing_age()
        if lag > limit and (published is None or published > limit):
            raise CommandError(
                f"The oldest due task has waited {lag:g} s to be published, longer than {limit:g} s, and no relay was able to "
                "publish for as long. Is drumline-relay running, and does the broker answer?"
            )
        if options["max_lag"] is None:
            return
        if not relays or min(relays.values()) > limit:
            last = f"for {min(relays.values()):g} s" if relays else "yet"
            raise CommandError(f"No relay sent a heartbeat {last}. Is drumline-relay running?")
        if unserved := unserved_queues():
            raise CommandError(unserved_message(unserved))


def _readable(report: dict[str, Any]) -> str:
    lines = [f"{'queue':16}{'waiting':>9}{'delayed':>9}{'running':>9}{'dead':>9}{'oldest':>12}"]
    for name, queue in report["queues"].items():
        oldest = "" if queue["oldest_age"] is None else f"{queue['oldest_age']:.1f} s"
        counts = "".join(f"{queue[field]:>9}" for field in ("waiting", "delayed", "running", "dead"))
        lines.append(f"{name:16}{counts}{oldest:>12}")
    relays = ", ".join(f"{name} {age:.1f} s ago" for name, age in report["relays"].items()) or "none yet"
    lines.append(f"relay lag {report['relay_lag']:.1f} s; relays: {relays}")
    finished = report["finished_estimate"]
    lines.append(f"finished and kept: {'not known yet' if finished is None else f'about {finished:,}'}")
    return "\n".join(lines)
