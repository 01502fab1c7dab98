"""drumline_check says what this deployment would lose, double or leave open."""

from argparse import ArgumentParser
from typing import Any

from celery import current_app
from django.core.management.base import BaseCommand, CommandError

from drumline.preflight.celery_settings import settings_notes, settings_problems
from drumline.preflight.django_settings import django_problems
from drumline.preflight.tasks import serving_problems, task_notes, task_problems


class Command(BaseCommand):
    """Exit 1 naming every problem."""

    help = "Say what the Celery and Django settings would lose, double or leave open, and what to write instead."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare --serve."""
        parser.add_argument("--serve", metavar="QUEUES", help="comma-separated queues that the fleet's workers serve")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Print what was found."""
        # Celery itself imports a project's tasks only in its own processes.
        current_app.loader.import_default_modules()
        problems = [*settings_problems(current_app), *django_problems(), *task_problems(current_app)]
        if options["serve"] is not None:
            problems += serving_problems(current_app, filter(None, map(str.strip, options["serve"].split(","))))
        for note in (*settings_notes(current_app), *task_notes(current_app)):
            self.stdout.write(f"note: {note}")
        if problems:
            raise CommandError("\n".join(problems))
        self.stdout.write("The settings are safe" + (" and every routed queue is served." if options["serve"] else "."))
