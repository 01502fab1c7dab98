"""ping: have each of some workers run a task, and say which did not."""

import time
from argparse import ArgumentParser
from collections.abc import Iterable
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from drumline.ledger.selectors import workers_alive
from drumline.models import DurableTask, Worker
from drumline.tasks import ping

# A worker of one queue cannot be addressed: pings that keep a process busy for a moment make its siblings take part.
BUSY_SECONDS = 0.2
PINGS_FOR_EACH = 4
LOOK = 0.2

State = DurableTask.State


class Command(BaseCommand):
    """A worker has proved itself by any task of this life of it, so one with a long task or a backlog passes as well."""

    help = "Have each worker run a test task, for example: ping high-1@app1 high-2@app1 --wait 30"

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the workers and --wait."""
        parser.add_argument("workers", nargs="+", metavar="WORKER", help="Celery node name, such as high-1@app1")
        parser.add_argument(
            "--wait", type=float, default=30.0, metavar="SECONDS", help="fail after this time (default: 30)"
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        """Ping until every worker has run something, or the time is over."""
        names = list(dict.fromkeys(options["workers"]))
        deadline = time.monotonic() + options["wait"]
        pings: dict[str, list[str]] = {}
        while True:
            alive = list(workers_alive())
            ran = _ran(alive, pings)
            missing = [name for name in names if name not in ran]
            if not missing or time.monotonic() > deadline:
                break
            for queue in sorted({queue for worker in alive if worker.name in missing for queue in worker.consumed}):
                if not _open(pings.get(queue, [])):
                    serving = sum(queue in worker.consumed for worker in alive)
                    sent = [
                        ping.apply_async(args=(BUSY_SECONDS,), queue=queue) for _ in range(PINGS_FOR_EACH * serving)
                    ]
                    pings[queue] = [result.id for result in sent]
            time.sleep(LOOK)
        for name in names:
            if name in ran:
                self.stdout.write(f"{name} runs tasks")
        if missing:
            seen = {worker.name for worker in alive}
            raise CommandError("\n".join(_why(name, alive=name in seen, seconds=options["wait"]) for name in missing))


def _ran(alive: Iterable[Worker], pings: dict[str, list[str]]) -> set[str]:
    """Return the workers that have run a task, or do now, by what they report and by who took the pings."""
    ids = [ping_id for sent in pings.values() for ping_id in sent]
    took = set(DurableTask.objects.filter(id__in=ids, worker_id__isnull=False).values_list("worker_id", flat=True))
    took |= set(DurableTask.objects.filter(state=State.RUNNING).values_list("worker_id", flat=True))
    return {worker.name for worker in alive if worker.done or worker.running or worker.id in took}


def _open(pings: list[str]) -> bool:
    return DurableTask.objects.filter(id__in=pings, state__in=(State.QUEUED, State.RUNNING)).exists()


def _why(name: str, *, alive: bool, seconds: float) -> str:
    if alive:
        return f"{name} is alive but ran no task within {seconds:g} s"
    return f"{name} is not alive: it sent no heartbeat"
