"""dead_letters: list, show, requeue and discard tasks that failed for good."""

import difflib
import getpass
import json
import os
from argparse import ArgumentParser
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError
from django.db.models import QuerySet

from drumline.application import application
from drumline.ledger import operators
from drumline.ledger.selectors import dead_letters, task_arguments, task_by_id, task_id
from drumline.management.queue_names import known_queue
from drumline.message import ledger_id
from drumline.models import DurableTask


class Command(BaseCommand):
    """Commands for operators. Each task's history records who ran one."""

    help = "List, show, requeue or discard dead letters: tasks that failed and have no retries left."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the four verbs."""
        verbs = parser.add_subparsers(dest="verb", required=True, metavar="list | show | requeue | discard")

        verb = verbs.add_parser("list", help="list dead letters, latest first")
        _declare_filters(verb)
        verb.add_argument("--limit", type=int, default=50, metavar="N", help="maximum number to list (default: 50)")
        verb.add_argument("--json", action="store_true", help="print one JSON list")

        verb = verbs.add_parser("show", help="show everything about one task, dead or not")
        verb.add_argument("id", help="the task's id")
        verb.add_argument("--json", action="store_true", help="print one JSON object")

        verb = verbs.add_parser("requeue", help="run dead or discarded tasks again, with all of their attempts")
        verb.add_argument("ids", nargs="*", metavar="ID", help="the tasks' ids")
        verb.add_argument("--all", action="store_true", help="all dead letters, or those that match --queue and --task")
        _declare_filters(verb)

        verb = verbs.add_parser(
            "discard", help="give up dead or waiting tasks; they are kept for DRUMLINE_KEEP_FINISHED seconds"
        )
        verb.add_argument("ids", nargs="+", metavar="ID", help="the tasks' ids")
        verb.add_argument("--reason", required=True, metavar="TEXT", help="the reason, kept in the task's history")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Do what the verb says."""
        getattr(self, f"_{options['verb']}")(options)

    def _list(self, options: dict[str, Any]) -> None:
        limit = options["limit"]
        if limit < 1:
            raise CommandError(f"--limit is {limit}; it must be 1 or more.")
        found = _found(options)
        rows = list(found.defer("message", "traceback", "history")[:limit])
        if options["json"]:
            self.stdout.write(json.dumps([_summary(row) for row in rows]))
        else:
            self.stdout.write("\n".join(map(_line, rows)) or "No dead letters.")
        if len(rows) == limit and (total := found.count()) > limit:
            # A program reads the list alone.
            out = self.stderr if options["json"] else self.stdout
            asked = "".join(f" --{name} {options[name]}" for name in ("queue", "task") if options[name])
            out.write(f"{total - limit} more are not listed. To list all: dead_letters list{asked} --limit {total}")

    def _show(self, options: dict[str, Any]) -> None:
        row = task_by_id(options["id"])
        if row is None:
            raise CommandError(
                f"There is no task {options['id']} in the ledger. To list dead letters: dead_letters list"
            )
        args, kwargs = task_arguments(row)
        report = {
            **_summary(row),
            "task_id": task_id(row),
            "state": row.get_state_display().lower(),
            "args": args,
            "kwargs": kwargs,
            "created_at": row.created_at.isoformat(),
            "due_at": row.due_at.isoformat(),
            "started_at": row.started_at and row.started_at.isoformat(),
            "retries": row.retries,
            "max_attempts": row.max_attempts,
            "worker": row.worker_id and str(row.worker_id),
            "parent_id": row.parent_id,
            "root_id": row.root_id,
            "history": row.history,
            "traceback": row.traceback,
        }
        if options["json"]:
            self.stdout.write(json.dumps(report, default=str))
            return
        history, traceback = report.pop("history"), report.pop("traceback")
        for name, value in report.items():
            self.stdout.write(f"{name + ':':14}{value}")
        for entry in history:
            self.stdout.write("  " + "  ".join(str(value) for value in entry.values() if value not in ("", None)))
        self.stdout.write(traceback)

    def _requeue(self, options: dict[str, Any]) -> None:
        if options["all"] == bool(options["ids"]):
            raise CommandError("Give task ids, or --all, optionally with --queue and --task.")
        if options["all"]:
            if options["task"] is not None:
                _refuse_unknown_task(options["task"])
            # Before the first is queued again: one that fails at once must not come round for ever.
            ids = list(_found(options).values_list("id", flat=True))
        elif options["queue"] is not None or options["task"] is not None:
            raise CommandError("--queue and --task can only be used with --all, not with ids.")
        else:
            ids = _ids(options["ids"], "dead or discarded", DurableTask.State.DEAD, DurableTask.State.DISCARDED)
        self.stdout.write(f"Requeued {operators.requeue(ids, by=operator())} of {len(ids)}.")

    def _discard(self, options: dict[str, Any]) -> None:
        reason = options["reason"].strip()
        if not reason:
            raise CommandError("--reason is required; it is kept in the task's history.")
        ids = _ids(options["ids"], "dead or waiting", DurableTask.State.DEAD, DurableTask.State.QUEUED)
        self.stdout.write(f"Discarded {operators.discard(ids, reason=reason, by=operator())} of {len(ids)}.")


def operator() -> str:
    """Return the person at the terminal, also behind sudo."""
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):
        # A container's user may have no name.
        return f"uid {os.getuid()}"


def _declare_filters(verb: ArgumentParser) -> None:
    verb.add_argument("--queue", help="only tasks of this queue")
    verb.add_argument("--task", metavar="NAME", help="only tasks with this name")


def _found(options: dict[str, Any]) -> QuerySet[DurableTask]:
    """Return the dead letters that match --queue and --task; refuse a queue that nobody knows."""
    queue = "" if options["queue"] is None else known_queue(options["queue"])
    return dead_letters(queue=queue, task=options["task"] or "")


def _refuse_unknown_task(name: str) -> None:
    """Refuse a name that no registered task and no dead letter has: a typing error, mostly."""
    # Celery itself imports a project's tasks only in its own processes.
    application().loader.import_default_modules()
    known = {*application().tasks, *dead_letters().order_by().values_list("name", flat=True).distinct()}
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        meant = f" Did you mean {close[0]}?" if close else ""
        raise CommandError(f"There is no task {name!r}, and no dead letter of that name. Nothing was changed.{meant}")


def _line(row: DurableTask) -> str:
    ended = f"{row.finished_at:%Y-%m-%d %H:%M:%S}"
    error = row.error.splitlines()[0][:100] if row.error else ""
    return f"{ended}  {row.id}  {row.queue}  {row.name}  {row.attempt} attempts  {error}"


def _summary(row: DurableTask) -> dict[str, Any]:
    return {
        "id": str(row.id),
        "task": row.name,
        "queue": row.queue,
        "attempts": row.attempt,
        "finished_at": row.finished_at and row.finished_at.isoformat(),
        "error": row.error,
    }


def _ids(given: list[str], wanted: str, *states: DurableTask.State) -> list[UUID]:
    """Return the keys of these tasks, or refuse all with the ones that are not as wanted: a typing error, mostly."""
    keys = {ledger_id(text): text for text in given}
    found = set(DurableTask.objects.filter(id__in=keys, state__in=states).values_list("id", flat=True))
    others = [text for key, text in keys.items() if key not in found]
    if others:
        raise CommandError(f"Not {wanted}: {', '.join(others)}. Nothing was changed. To see why: dead_letters show ID")
    return list(keys)
