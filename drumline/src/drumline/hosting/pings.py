"""A test task in every queue and on every worker, seen by the workers' own counts: there is no ledger, and maybe no results."""

import json
import time
from collections.abc import Iterator
from typing import Any

from celery import Celery

from drumline.hosting import project
from drumline.hosting.liveness import PING

# A worker of one queue cannot be addressed: pings that keep a process busy for a moment make its siblings take part.
BUSY_SECONDS = 0.2
PINGS_FOR_EACH = 4
LOOK = 0.3
# Seconds for which workers may answer one question.
ANSWER = 1.0


def run(names: list[str], queues: list[str], *, seconds: float) -> Iterator[str]:
    """Print what ran; yield one line for each worker and each queue that ran nothing in time."""
    app = project.celery_application()
    deadline = time.monotonic() + seconds
    yield from _workers(app, names, deadline, seconds)
    for queue in queues:
        yield from _queue(app, queue, deadline, seconds)


def _workers(app: Celery, names: list[str], deadline: float, seconds: float) -> Iterator[str]:
    """A worker has proved itself by any task of this life of it."""
    sent: dict[str, int] = {}
    while True:
        ran = {name for name, count in _counts(app, names).items() if count}
        missing = [name for name in names if name not in ran]
        if not missing or time.monotonic() > deadline:
            break
        for queue in sorted({queue for queues in _consumed(app, missing).values() for queue in queues}):
            # Again only when the former ones may have gone to others.
            if sent.get(queue, 0) <= len(ran):
                sent[queue] = len(ran) + 1
                for _ in range(PINGS_FOR_EACH * len(names)):
                    app.send_task(PING, args=(BUSY_SECONDS,), queue=queue, ignore_result=True)
        time.sleep(LOOK)
    for name in names:
        if name in ran:
            print(f"{name} runs tasks")
    alive = _consumed(app, missing) if missing else {}
    for name in missing:
        if name in alive:
            yield f"{name} is alive but ran no task within {seconds:g} s"
        else:
            yield f"{name} does not answer"


def _queue(app: Celery, queue: str, deadline: float, seconds: float) -> Iterator[str]:
    serving = [name for name, queues in _consumed(app, None).items() if queue in queues]
    if not serving:
        yield f"no worker consumes the queue {queue}"
        return
    before, started = _counts(app, serving, PING), time.monotonic()
    app.send_task(PING, queue=queue, ignore_result=True)
    while time.monotonic() < max(deadline, started + ANSWER):
        for name, count in _counts(app, serving, PING).items():
            if count > before.get(name, 0):
                took = round(time.monotonic() - started, 3)
                report = {"task": PING, "queue": queue, "state": "SUCCESS", "worker": name, "seconds": took}
                print(json.dumps(report))
                return
        time.sleep(LOOK)
    yield f"{PING} on {queue} did not start within {seconds:g} s"


def _counts(app: Celery, names: list[str], task: str = "") -> dict[str, int]:
    """Return how many tasks each worker has started, of one name or of all."""
    if not names:
        return {}
    stats: dict[str, Any] = app.control.inspect(destination=names, timeout=ANSWER, limit=len(names)).stats() or {}
    return {name: _count(said.get("total", {}), task) for name, said in stats.items()}


def _count(total: dict[str, int], task: str) -> int:
    return total.get(task, 0) if task else sum(total.values())


def _consumed(app: Celery, names: list[str] | None) -> dict[str, set[str]]:
    found = app.control.inspect(destination=names, timeout=ANSWER).active_queues() or {}
    return {name: {queue["name"] for queue in queues} for name, queues in found.items()}
