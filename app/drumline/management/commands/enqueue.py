"""enqueue: send one task, and with --wait follow it to its end."""

import json
import time
from argparse import ArgumentParser
from typing import Any

from celery import current_app, states
from celery.backends.base import DisabledBackend
from celery.exceptions import TimeoutError as ResultTimeoutError
from django.core.management.base import BaseCommand, CommandError
from kombu.exceptions import OperationalError

from drumline.ledger.selectors import task_by_id
from drumline.models import DurableTask

# What Celery calls the places where a row stands.
STATES = {
    DurableTask.State.QUEUED: states.PENDING,
    DurableTask.State.RUNNING: states.STARTED,
    DurableTask.State.FINISHED: states.SUCCESS,
    DurableTask.State.DEAD: states.FAILURE,
    DurableTask.State.DISCARDED: states.REVOKED,
}
OPEN = {DurableTask.State.QUEUED, DurableTask.State.RUNNING}


class Command(BaseCommand):
    """Check everything that can be checked before anything is sent."""

    help = "Send a task: enqueue core.ping --queue high --wait 10"

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the task, its arguments, --queue and --wait."""
        parser.add_argument("task", help="a registered task's name")
        parser.add_argument("json", nargs="?", default="[]", help="arguments: a JSON list, or an object for keywords")
        parser.add_argument("--queue", help="declared queues, separated by commas, instead of the routed one")
        parser.add_argument("--wait", type=float, metavar="SECONDS", help="follow it to its end; fail without success")

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
        raise CommandError(f"{task.name} does not take these arguments: {error}") from None
    except OperationalError as error:
        # Only of a task without the ledger, which leaves every other one to the relay.
        raise CommandError(f"The broker did not take the message: {error}") from None


def _follow(task: Any, result: Any, queue: str, started: float, seconds: float) -> dict[str, Any]:
    """Wait for the end of one task, by the ledger or else by its stored result, and report its way."""
    end = _end_in_ledger(result.id, started + seconds)
    if end is None:
        state, value = _stored_result(task, result, seconds)
    elif end.state == DurableTask.State.FINISHED:
        state, value = states.SUCCESS, result.result if _stores_results(task) else None
    else:
        state, value = STATES[DurableTask.State(end.state)], end.error or None
    return {
        "task": task.name,
        "id": result.id,
        "queue": queue,
        "state": state,
        "seconds": round(time.monotonic() - started, 3),
        "result": value,
    }


def _end_in_ledger(task_id: str, deadline: float) -> DurableTask | None:
    """Return the row at its end, or as it stands at the deadline; None when the ledger does not hold it."""
    while True:
        row = task_by_id(task_id)
        if row is None or row.state not in OPEN or time.monotonic() > deadline:
            return row
        time.sleep(0.05)


def _stored_result(task: Any, result: Any, seconds: float) -> tuple[str, Any]:
    if not _stores_results(task):
        raise CommandError(
            f"{task.name} is sent, but neither the ledger nor a stored result says what becomes of it; leave out --wait"
        )
    try:
        value = result.get(timeout=seconds, interval=0.05, propagate=False)
    except ResultTimeoutError:
        value = None
    state = result.state
    return state, value if state == states.SUCCESS or value is None else str(value)


def _stores_results(task: Any) -> bool:
    return not task.ignore_result and not isinstance(task.backend, DisabledBackend)


def _task(name: str) -> Any:
    # Celery itself imports a project's tasks only in its own processes.
    current_app.loader.import_default_modules()
    tasks = current_app.tasks
    if name not in tasks:
        known = "\n".join(f"  {known}" for known in sorted(tasks) if not known.startswith("celery."))
        raise CommandError(f"There is no task {name!r}. Known tasks:\n{known}")
    return tasks[name]


def _queue(name: str) -> str:
    declared = sorted(current_app.amqp.queues)
    if name not in declared:
        raise CommandError(f"There is no queue {name!r}. Declared queues: {', '.join(declared)}")
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
