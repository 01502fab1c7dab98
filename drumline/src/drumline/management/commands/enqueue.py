"""enqueue: send a task, and with --wait follow it until it ends."""

import json
import time
from argparse import ArgumentParser
from typing import Any

from celery import states
from celery.backends.base import DisabledBackend
from celery.exceptions import QueueNotFound
from celery.exceptions import TimeoutError as ResultTimeoutError
from django.core.management.base import BaseCommand, CommandError
from kombu.exceptions import OperationalError

from drumline.application import application
from drumline.ledger.selectors import task_by_id
from drumline.management.queue_names import queue_to_send_to
from drumline.models import DurableTask, Worker

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

    help = "Send a task, for example: enqueue drumline.ping --queue high --wait 10"

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the task, its arguments, --queue and --wait."""
        parser.add_argument("task", help="name of a registered task")
        parser.add_argument(
            "json", nargs="?", default="[]", help="arguments, as a JSON list, or a JSON object for keyword arguments"
        )
        parser.add_argument("--queue", help="send it to these comma-separated queues instead of the routed one")
        parser.add_argument(
            "--wait", type=float, metavar="SECONDS", help="wait for the task to end, and fail unless it succeeds"
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        """Validate, send, report."""
        task = _task(options["task"])
        args, kwargs = _arguments(options["json"])
        # Without --queue Celery routes it, as it does for every other sender.
        queues: list[str | None] = [None]
        if options["queue"] is not None:
            queues = [queue_to_send_to(name.strip()) for name in options["queue"].split(",")]
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
                failures.append(f"{task.name} on {report['queue']} is {report['state']} after {report['seconds']} s")
        if failures:
            raise CommandError("; ".join(failures))


def _send(task: Any, args: list[Any], kwargs: dict[str, Any], queue: str | None) -> Any:
    try:
        return task.apply_async(args=args, kwargs=kwargs, **({"queue": queue} if queue else {}))
    except TypeError as error:
        raise CommandError(f"{task.name} does not accept these arguments: {error}") from None
    except QueueNotFound as error:
        raise CommandError(
            f"{task.name} is routed to a queue that is not declared: {error}. Choose one with --queue"
        ) from None
    except OperationalError as error:
        # Only of a task without the ledger, which leaves every other one to the relay.
        raise CommandError(f"The broker did not accept the message: {error}") from None


def _follow(task: Any, result: Any, queue: str | None, started: float, seconds: float) -> dict[str, Any]:
    """Wait for the end of one task, by the ledger or else by its stored result, and report its way."""
    end = _end_in_ledger(result.id, started + seconds)
    if end is None:
        state, value = _stored_result(task, result, seconds)
    elif end.state == DurableTask.State.FINISHED:
        state, value = states.SUCCESS, _value(task, result)
    else:
        state, value = STATES[DurableTask.State(end.state)], end.error or None
    return {
        "task": task.name,
        "id": result.id,
        "queue": queue or (end.queue if end else None),
        "state": state,
        "worker": _worker(end),
        "seconds": round(time.monotonic() - started, 3),
        "result": value,
    }


def _worker(end: DurableTask | None) -> str | None:
    """Return the worker that claimed the task last, by the ledger."""
    if end is None or end.worker_id is None:
        return None
    return Worker.objects.filter(id=end.worker_id).values_list("name", flat=True).first()


def _end_in_ledger(task_id: str, deadline: float) -> DurableTask | None:
    """Return the row at its end, or as it stands at the deadline; None when the ledger does not hold it."""
    while True:
        row = task_by_id(task_id)
        if row is None or row.state not in OPEN or time.monotonic() > deadline:
            return row
        time.sleep(0.05)


def _value(task: Any, result: Any) -> Any:
    """Return the stored result of a task that ended; None when none is stored or where it is stored does not answer."""
    if not _stores_results(task):
        return None
    try:
        return result.result
    except Exception:  # noqa: BLE001  each result backend has errors of its own, and the ledger knows the end
        return None


def _stored_result(task: Any, result: Any, seconds: float) -> tuple[str, Any]:
    if not _stores_results(task):
        raise CommandError(
            f"{task.name} was sent, but --wait cannot follow it: the task is not durable and stores no result "
            "(task_ignore_result, result_backend)"
        )
    try:
        value = result.get(timeout=seconds, interval=0.05, propagate=False)
        state = result.state
    except ResultTimeoutError:
        return states.PENDING, None
    except Exception as error:  # noqa: BLE001  each result backend has errors of its own
        raise CommandError(
            f"{task.name} was sent, but its result cannot be read: {type(error).__name__}: {error}. Does the "
            "result_backend answer?"
        ) from None
    return state, value if state == states.SUCCESS or value is None else str(value)


def _stores_results(task: Any) -> bool:
    return not task.ignore_result and not isinstance(task.backend, DisabledBackend)


def _task(name: str) -> Any:
    # Celery itself imports a project's tasks only in its own processes.
    application().loader.import_default_modules()
    tasks = application().tasks
    if name not in tasks:
        known = "\n".join(f"  {known}" for known in sorted(tasks) if not known.startswith("celery."))
        raise CommandError(f"There is no task {name!r}. Known tasks:\n{known}")
    return tasks[name]


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
