"""drumline_check says what this deployment would lose, double or leave open."""

from argparse import ArgumentParser
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from django.apps import apps
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, InterfaceError, transaction

from drumline.application import application
from drumline.celery_hooks.versions import untested
from drumline.preflight.celery_settings import settings_notes, settings_problems
from drumline.preflight.django_settings import django_problems, pooling_problems
from drumline.preflight.migrations import breaking_migrations
from drumline.preflight.queues import routing_notes, serving_problems, waiting_problems
from drumline.preflight.task_options import task_notes, task_problems


class Command(BaseCommand):
    """Exit 1 naming every problem."""

    help = (
        "Check for Celery and Django settings that lose or duplicate tasks, or open the system, and suggest better ones. "
        "Name what unapplied migrations take from the release that runs."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare --serve."""
        parser.add_argument(
            "--serve",
            metavar="QUEUES",
            help="comma-separated queues that workers serve; also check that every route leads to one of them",
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        """Print what was found."""
        # Celery itself imports a project's tasks only in its own processes.
        application().loader.import_default_modules()
        problems = [
            *_read("the Celery settings", settings_problems(application())),
            *_read("the Django settings", django_problems()),
            *_read("the tasks' options", task_problems(application())),
        ]
        beat = import_module("drumline.beat.preflight") if apps.is_installed("drumline.beat") else None
        if beat is not None:
            problems += _read("beat_schedule", beat.schedule_problems(application()))
        served = set(filter(None, map(str.strip, (options["serve"] or "").split(","))))
        if options["serve"] is not None:
            problems += _read("the queues and routes", serving_problems(application(), served))
        try:
            problems += pooling_problems()
            for line in breaking_migrations():
                self.stdout.write(f"migration: {line}")
            if options["serve"] is not None:
                # A savepoint, since the first release is checked before there are tables.
                with transaction.atomic():
                    problems += waiting_problems(served)
                    problems += beat.unserved_schedules(served) if beat is not None else ()
        except (DatabaseError, InterfaceError) as error:
            self.stdout.write(f"note: the database could not be checked: {error}".strip())
        notes = (untested(), settings_notes(application()), task_notes(application()), routing_notes(application()))
        for note in (note for each in notes for note in _read("the settings", each)):
            self.stdout.write(f"note: {note}")
        if problems:
            raise CommandError("\n".join(problems))
        self.stdout.write("The settings are safe" + (" and every routed queue is served." if options["serve"] else "."))


def _read(what: str, lines: Iterator[str]) -> list[str]:
    """Return the lines; a value that no check expects becomes one of them instead of a traceback."""
    found: list[str] = []
    try:
        found.extend(lines)
    except Exception as error:  # noqa: BLE001  a setting may hold anything
        found.append(f"{what} cannot be read: {type(error).__name__}: {error}. Celery may fail on the same value")
    return found
