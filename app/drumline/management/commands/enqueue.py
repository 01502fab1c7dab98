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
        parser.add_argument("--queue", help="declared queues, separated by commas, instead of the routed one")
        parser.add_argument("--wait", type=float, metavar="SECONDS", help="wait for the result; fail without success")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Validate, send, report."""
        task = _task(options["task"])
        args, kwargs = _arguments(options["json"])
        if options["queue"]:
            queues = [_queue(name.strip()) for name in options["queue"].split(",")]
        else:
            queues = [current_app.amqp.router.route({}, task.name)["queue"].name]
        failures = []
        for queue in queues:
            started = time.monotonic()
            result = _send(task, args, kwargs, queue)
            if options["wait"] is None:
                self.stdout.write(result.id)
                continue
            report = _follow(task, result, queue, started, options["wait"])
            self.stdout.write(json.dumps(report, default=str))
            if report["state"] != "SUCCESS":
                failures.append(f"{task.name} on {queue} is {report['state']} after {report['seconds']} s")
        if failures:
            raise CommandError("; ".join(failures))


def _send(task: Any, args: list[Any], kwargs: dict[str, Any], queue: str) -> Any:
    try:
        return task.apply_async(args=args, kwargs=kwargs, queue=queue)
    except TypeError as error:
        message = f"{task.name} does not take these arguments: {error}"
        raise CommandError(message) from None
    except OperationalError as error:
        message = f"The broker did not take the message: {error}"
        raise CommandError(message) from None


def _follow(task: Any, result: Any, queue: str, started: float, seconds: float) -> dict[str, Any]:
    """Wait for the end of one task and report its way."""
    try:
        value = result.get(timeout=seconds, interval=0.05, propagate=False)
    except ResultTimeoutError:
        value = None
    state = result.state
    return {
        "task": task.name,
        "id": result.id,
        "queue": queue,
        "state": state,
        "seconds": round(time.monotonic() - started, 3),
        "result": value if state == "SUCCESS" else (str(value) if value is not None else None),
    }


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
