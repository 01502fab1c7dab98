"""drumline_check says what this deployment would lose or leave open."""

from argparse import ArgumentParser
from typing import Any

from celery import current_app
from django.core.management.base import BaseCommand, CommandError

from drumline.preflight.checks import serving_problems, settings_problems


class Command(BaseCommand):
    """Exit 1 naming every problem."""

    help = "Check the Celery settings, and with --serve that every routed queue has workers."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare --serve."""
        parser.add_argument("--serve", metavar="QUEUES", help="comma-separated queues that the fleet's workers serve")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Print what was found."""
        problems = list(settings_problems(current_app))
        if options["serve"] is not None:
            problems += serving_problems(current_app, filter(None, map(str.strip, options["serve"].split(","))))
        if problems:
            raise CommandError("\n".join(problems))
        self.stdout.write(
            "The Celery settings are safe" + (" and every routed queue is served." if options["serve"] else ".")
        )
