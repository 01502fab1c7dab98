"""release: what this release knows, and whether the database can go back to an older one."""

import json
import sys
from argparse import ArgumentParser
from importlib import import_module
from typing import Any

from django.apps import apps
from django.core.management.base import BaseCommand, CommandError

from drumline.application import application
from drumline.preflight.releases import (
    Manifest,
    Undo,
    irreversible,
    migrations_to_undo,
    undo_migrations,
    waiting_tasks_unknown_to,
)


class Command(BaseCommand):
    """The verbs of a deploy and a rollback; only `undo` changes the database."""

    help = "Print what this release knows, or say what stands between the database and an older release."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the verbs."""
        verbs = parser.add_subparsers(dest="verb", required=True, metavar="manifest|rollback|undo")
        verbs.add_parser("manifest", help="print this release's migrations and tasks as JSON")
        rollback = verbs.add_parser(
            "rollback", help="read an older release's manifest from standard input, and say what it could not run"
        )
        rollback.add_argument(
            "--migrations",
            choices=("refuse", "undo", "keep"),
            default="refuse",
            help="refuse migrations that it lacks, accept those that `release undo` can undo, or accept them all",
        )
        rollback.add_argument("--any-task", action="store_true", help="go back whatever tasks and entries it lacks")
        verbs.add_parser("undo", help="undo the migrations that the older release on standard input does not have")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Run the verb."""
        application().loader.import_default_modules()
        if options["verb"] == "manifest":
            self.stdout.write(json.dumps(Manifest.of(application()).as_json(), sort_keys=True))
            return
        try:
            older = Manifest.read(json.load(sys.stdin))
        except ValueError as error:
            raise CommandError(
                f"The older release cannot be compared: {error}. Without one, deploy its commit instead of going back to it."
            ) from error
        undone = migrations_to_undo(older)
        if options["verb"] == "undo":
            undo_migrations(older)
            self.stdout.write(f"Undone: {', '.join(map(str, undone))}" if undone else "There is nothing to undo.")
            return
        problems = [] if options["any_task"] else _unknown_tasks(older)
        problems += _unwanted_migrations(undone, options["migrations"])
        if problems:
            raise CommandError("\n".join(problems))
        if not undone:
            self.stdout.write("Nothing stands in the way.")
        else:
            what = "To be undone" if options["migrations"] == "undo" else "To be kept"
            self.stdout.write(f"{what}: {', '.join(map(str, undone))}")


def _unwanted_migrations(undone: list[Undo], wanted: str) -> list[str]:
    if wanted == "keep":
        return []
    applied = [] if wanted == "undo" else [migration for migration in undone if migration.reversible]
    return [
        *(
            f"the migration {m} is applied, the older release lacks it, and it cannot be undone"
            for m in irreversible(undone)
        ),
        *(f"the migration {m} is applied, and the older release lacks it" for m in applied),
    ]


def _unknown_tasks(older: Manifest) -> list[str]:
    found = list(waiting_tasks_unknown_to(application(), older))
    if apps.is_installed("drumline.beat"):
        found += import_module("drumline.beat.preflight").schedules_unknown_to(older.tasks)
    return found
