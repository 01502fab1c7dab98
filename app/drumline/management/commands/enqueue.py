"""enqueue: send one task, and with --wait follow it to its end."""

import json
import time
from argparse import ArgumentParser
from typing import Any

from celery import current_app
from celery.exceptions import TimeoutError as ResultTimeoutError
from django.core.management.base import BaseCommand, CommandError
from kombu.exceptions import OperationalError


class Command(BaseCommand):
    """Check everything that can be checked before anything is sent."""

    help = "Send a task: enqueue core.ping --queue high --wait 10"

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the task, its arguments, --queue and --wait."""
        parser.add_argument("task", help="a registered task's name")
        parser.add_argument("json", nargs="?", default="[]", help="arguments: a JSON list, or an object for keywords")
        parser.add_argument("--queue", help="a declared queue, instead of the routed one")
        parser.add_argument("--wait", type=float, metavar="SECONDS", help="wait for the result; fail without success")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Validate, send, report."""
        task = _task(options["task"])
        args, kwargs = _arguments(options["json"])
        routing = {"queue": _queue(options["queue"])} if options["queue"] else {}
        queue = options["queue"] or current_app.amqp.router.route({}, task.name)["queue"].name
        started = time.monotonic()
        try:
            result = task.apply_async(args=args, kwargs=kwargs, **routing)
        except TypeError as error:
            message = f"{task.name} does not take these arguments: {error}"
            raise CommandError(message) from None
        except OperationalError as error:
            message = f"The broker did not take the message: {error}"
            raise CommandError(message) from None
        if options["wait"] is None:
            self.stdout.write(result.id)
            return
        try:
            value = result.get(timeout=options["wait"], interval=0.05, propagate=False)
        except ResultTimeoutError:
            value = None
        state = result.state
        report = {
            "task": task.name,
            "id": result.id,
            "queue": queue,
            "state": state,
            "seconds": round(time.monotonic() - started, 3),
            "result": value if state == "SUCCESS" else (str(value) if value is not None else None),
        }
        self.stdout.write(json.dumps(report, default=str))
        if state != "SUCCESS":
            message = f"{task.name} on {queue} is {state} after {report['seconds']} s"
            raise CommandError(message)


def _task(name: str) -> Any:
    tasks = current_app.tasks
    if name not in tasks:
        known = "\n".join(f"  {known}" for known in sorted(tasks) if not known.startswith("celery."))
        message = f"There is no task {name!r}. Known tasks:\n{known}"
        raise CommandError(message)
    return tasks[name]


def _queue(name: str) -> str:
    declared = sorted(current_app.amqp.queues)
    if name not in declared:
        message = f"There is no queue {name!r}. Declared queues: {', '.join(declared)}"
        raise CommandError(message)
    return name


def _arguments(text: str) -> tuple[list[Any], dict[str, Any]]:
    try:
        value = json.loads(text)
    except ValueError as error:
        message = f"The arguments are not JSON: {error}. Example: '[1]' or '{{\"user_id\": 1}}'"
        raise CommandError(message) from None
    if isinstance(value, list):
        return value, {}
    if isinstance(value, dict):
        return [], value
    message = f"The arguments must be a JSON list or object, not {text}. Example: '[1]' or '{{\"user_id\": 1}}'"
    raise CommandError(message)
