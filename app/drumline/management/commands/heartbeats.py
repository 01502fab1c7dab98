"""heartbeats says who was alive when."""

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from drumline.health.heartbeats import heartbeat_ages


class Command(BaseCommand):
    """List them; with --max-age exit 1 when one is older, or when there is none."""

    help = "List the heartbeats with their ages."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare --max-age and --json."""
        parser.add_argument("--max-age", type=float, metavar="SECONDS", help="fail when one is older or none is there")
        parser.add_argument("--json", action="store_true", help="print one JSON list")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Print the ages, then judge them."""
        ages = heartbeat_ages()
        rows = [
            {
                "name": beat.name,
                "host": beat.host,
                "pid": beat.pid,
                "at": beat.at.isoformat(),
                "age": round(age.total_seconds(), 1),
            }
            for beat, age in ages.items()
        ]
        if options["json"]:
            self.stdout.write(json.dumps(rows))
        else:
            for row in rows:
                self.stdout.write(f"{row['name']} on {row['host']} (pid {row['pid']}): {row['age']} s ago")
        limit = options["max_age"]
        if limit is None:
            return
        if not rows:
            message = "No heartbeat was ever written; is drumline-beat running?"
            raise CommandError(message)
        stale = [str(beat.name) for beat, age in ages.items() if age.total_seconds() > limit]
        if stale:
            message = f"Older than {limit:g} s: {', '.join(stale)}"
            raise CommandError(message)
