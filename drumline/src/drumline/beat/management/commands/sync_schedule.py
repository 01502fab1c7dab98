"""sync_schedule: write the code's schedule to the database now, as beat does at its start."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from drumline.application import application
from drumline.beat.schedule import schedule_sync


class Command(BaseCommand):
    """Print what changed."""

    help = "Sync the schedule defined in code to the database. Entries that an operator added stay unchanged."

    def handle(self, *_args: Any, **_options: Any) -> None:
        """Sync, and name the entries."""
        synced = schedule_sync(app=application())
        for verb in ("created", "updated", "deleted", "refused", "unchanged", "broken"):
            for name in getattr(synced, verb):
                self.stdout.write(f"{verb} {name}")
        if synced.broken:
            raise CommandError(
                f"These entries of beat_schedule cannot be read: {', '.join(synced.broken)}. See the log for the reason."
            )
