"""import_users: many accounts at once, from a file."""

import csv
import sys
import time
from collections.abc import Iterator
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from apps.users.services import ImportRefusedError, users_import

# Problems that are shown of a file that has more.
SHOWN = 20


class Command(BaseCommand):
    """Import all or nothing; accounts that exist stay as they are."""

    help = "Create accounts from lines of e-mail,full name, and send the welcome e-mails: import_users < people.csv"

    def handle(self, *_args: Any, **_options: Any) -> None:
        """Import what is on standard input."""
        started = time.monotonic()
        try:
            number = users_import(people=people())
        except ImportRefusedError as refused:
            more = len(refused.reasons) - SHOWN
            lines = refused.reasons[:SHOWN] + ([f"and {more} more"] if more > 0 else [])
            raise CommandError("\n".join(["Nothing was imported:", *lines])) from None
        except (UnicodeDecodeError, csv.Error) as error:
            raise CommandError(f"Nothing was imported: {error}") from None
        self.stdout.write(f"{number} accounts created in {time.monotonic() - started:.2f} s")


def people() -> Iterator[tuple[int, str, str]]:
    """Yield line, e-mail and full name; a line may leave the name out."""
    rows = csv.reader(sys.stdin, strict=True)
    for row in rows:
        match row:
            case []:
                continue
            case [email]:
                yield rows.line_num, email, ""
            case [email, full_name]:
                yield rows.line_num, email, full_name.strip()
            case _:
                raise csv.Error(f"line {rows.line_num} holds more than an e-mail and a name")
