"""heartbeats: list when each process last sent a heartbeat."""

import json
import math
from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from drumline.health.heartbeats import heartbeat_ages
from drumline.models import Heartbeat


class Command(BaseCommand):
    """List heartbeats. Exit 1 if a name has none and, with --max-age, if one is older or there is none at all."""

    help = "List heartbeats with their ages, for example: heartbeats beat relay --max-age 60"

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the names, --max-age and --json."""
        parser.add_argument("names", nargs="*", metavar="NAME", help="only these: beat, relay, or relay@HOST")
        parser.add_argument(
            "--max-age",
            type=float,
            metavar="SECONDS",
            help="fail if every heartbeat of a name is older; without names, if any is older or there is none",
        )
        parser.add_argument("--json", action="store_true", help="print one JSON list")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Print the ages, then judge them."""
        names = options["names"]
        ages = {
            beat: age
            for beat, age in heartbeat_ages().items()
            if not names or any(_is_of(beat, name) for name in names)
        }
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
        limit = math.inf if options["max_age"] is None else options["max_age"]
        problems = [line for name in names if (line := _judged(name, ages, limit))]
        if not names and options["max_age"] is not None and (line := _all_judged(ages, limit)):
            problems.append(line)
        if problems:
            raise CommandError("\n".join(problems))


def _is_of(beat: Heartbeat, name: str) -> bool:
    return beat.name == name or beat.name.startswith(f"{name}@")


def _judged(name: str, ages: dict[Heartbeat, timedelta], limit: float) -> str:
    """Return what is wrong with the youngest of a name: a host that left the fleet leaves its last one behind."""
    of_name = [(age.total_seconds(), beat) for beat, age in ages.items() if _is_of(beat, name)]
    if not of_name:
        return f"No heartbeat of {name} found. Is drumline-{name.partition('@')[0]} running?"
    age, beat = min(of_name, key=lambda pair: pair[0])
    if age <= limit:
        return ""
    return (
        f"{beat.name} on {beat.host} sent its last heartbeat {age:.0f} s ago, more than {limit:g} s. "
        f"Is drumline-{name.partition('@')[0]} running?"
    )


def _all_judged(ages: dict[Heartbeat, timedelta], limit: float) -> str:
    if not ages:
        return "No heartbeat found. Is drumline-beat running?"
    stale = [str(beat.name) for beat, age in ages.items() if age.total_seconds() > limit]
    return f"Older than {limit:g} s: {', '.join(stale)}" if stale else ""
