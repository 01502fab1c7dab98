"""What the ledger holds. Each question reads an index of what is open, never the rows of what is finished."""

import json
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import DEFAULT_DB_ALIAS
from django.db.models import Count, Min, QuerySet
from django.utils import timezone

from drumline import conf
from drumline.message import Message, ledger_id
from drumline.models import DurableTask, Worker

State = DurableTask.State

# Each of these is the condition of one index: PostgreSQL takes no index for `state = 0` alone.
PUBLISHED = {"state": State.QUEUED, "published_at__isnull": False}
UNPUBLISHED = {"state": State.QUEUED, "published_at__isnull": True}

# What ended a task that no process could report on, by the last entry of its history.
ERRORS = {
    "failed": "TimeLimitExceeded",
    "lost": "WorkerLostError",
    "unknown": "NotRegistered",
    "refused": "RefusedError",
}


@dataclass(slots=True)
class QueueState:
    """How much of one queue stands where; `delayed` is not due yet, `waiting` is."""

    waiting: int = 0
    delayed: int = 0
    running: int = 0
    dead: int = 0
    oldest_due_at: datetime | None = None

    @property
    def open(self) -> int:
        """Return how many tasks are still to be started, now or later."""
        return self.waiting + self.delayed

    @property
    def oldest_age(self) -> float | None:
        """Return for how many seconds the oldest task has been due without being started; None when none waits."""
        return _seconds_since(self.oldest_due_at) if self.oldest_due_at else None

    def as_json(self) -> dict[str, Any]:
        """Return the counts and the age, without the moment."""
        fields = {name: value for name, value in asdict(self).items() if name != "oldest_due_at"}
        return {**fields, "oldest_age": self.oldest_age}


def ledger_rows() -> QuerySet[DurableTask]:
    """Return the rows where they are written (`store`): what was written just now may be missing where a router reads."""
    return DurableTask.objects.using(DEFAULT_DB_ALIAS)


def queue_states() -> dict[str, QueueState]:
    """Return every queue that holds something open, by name. It costs one look at each open row."""
    now = timezone.now()
    queues: dict[str, QueueState] = defaultdict(QueueState)
    due = DurableTask.objects.filter(**UNPUBLISHED, due_at__lte=now)
    for rows in (DurableTask.objects.filter(**PUBLISHED), due):
        for name, count, oldest in rows.values_list("queue").annotate(Count("id"), Min("due_at")).order_by():
            queue = queues[name]
            queue.waiting += count
            queue.oldest_due_at = min(queue.oldest_due_at or oldest, oldest)
    others = {
        "delayed": DurableTask.objects.filter(**UNPUBLISHED, due_at__gt=now),
        "running": DurableTask.objects.filter(state=State.RUNNING),
        "dead": DurableTask.objects.filter(state=State.DEAD),
    }
    for field, rows in others.items():
        for name, count in rows.values_list("queue").annotate(Count("id")).order_by():
            setattr(queues[name], field, count)
    return dict(sorted(queues.items()))


def relay_lag() -> float:
    """Return for how many seconds the oldest due task has waited to be published; 0 when none does."""
    oldest = DurableTask.objects.filter(**UNPUBLISHED).order_by("due_at").values_list("due_at", flat=True).first()
    return _seconds_since(oldest) if oldest else 0.0


def workers_alive() -> QuerySet[Worker]:
    """Return the workers that have not stopped and sent a heartbeat within the lease."""
    since = timezone.now() - timedelta(seconds=conf.lease())
    return Worker.objects.filter(stopped_at__isnull=True, beat_at__gte=since).order_by("name")


def served_queues() -> Counter[str]:
    """Return by how many living workers each queue is consumed."""
    return Counter(queue for worker in workers_alive() for queue in worker.consumed)


def unserved_queues() -> dict[str, QueueState]:
    """Return the queues in which tasks are still to be started and that no living worker consumes."""
    served = served_queues()
    return {name: state for name, state in queue_states().items() if state.open and not served[name]}


def unserved_message(queues: dict[str, QueueState]) -> str:
    """Return what an operator is told of such queues, and what to type."""
    return "\n".join(
        f"No worker consumes queue {name}, and {state.open} tasks wait in it. Start a worker for it, or move them to "
        f"another queue: drumline-manage queues move {name} QUEUE"
        for name, state in queues.items()
    )


def dead_letters(*, queue: str = "", task: str = "") -> QuerySet[DurableTask]:
    """Return the dead letters of a queue and of a task, or of all, latest first."""
    rows = DurableTask.objects.filter(state=State.DEAD).order_by("-finished_at")
    if queue:
        rows = rows.filter(queue=queue)
    return rows.filter(name=task) if task else rows


def task_by_id(task_id: str) -> DurableTask | None:
    """Return a task by the id that Celery knows it by, whatever its form."""
    return ledger_rows().filter(id=ledger_id(task_id)).first()


def task_id(task: DurableTask) -> str:
    """Return the id that Celery knows the task by."""
    return str(Message.loads(task.message).headers["id"])


def task_arguments(task: DurableTask) -> tuple[Any, Any]:
    """Return the positional and the keyword arguments; those that are not JSON as the text that they are sent as."""
    message = Message.loads(task.message)
    if message.content_type != "application/json":
        return message.body, None
    args, kwargs, _ = json.loads(message.body)
    return args, kwargs


def task_error(task: DurableTask) -> str:
    """Return the class of the error that made it a dead letter, which reveals no secrets; empty if it is not one."""
    if task.state != State.DEAD:
        return ""
    name, colon, _ = task.error.partition(":")
    return name if colon and name.isidentifier() else ERRORS[task.history[-1]["what"]]


@dataclass(frozen=True, slots=True)
class RunningTask:
    """One task that runs now."""

    task: DurableTask
    worker: Worker | None
    seconds: float


def running_tasks() -> list[RunningTask]:
    """Return what runs now with its worker, the longest first."""
    rows = list(DurableTask.objects.filter(state=State.RUNNING).order_by("started_at"))
    workers = Worker.objects.in_bulk({row.worker_id for row in rows if row.worker_id})
    return [RunningTask(row, _worker(workers, row.worker_id), _seconds_since(row.started_at)) for row in rows]


def _worker(workers: dict[UUID, Worker], worker_id: UUID | None) -> Worker | None:
    return workers.get(worker_id) if worker_id else None


def _seconds_since(moment: datetime | None) -> float:
    """Return an age that another host's clock cannot make negative."""
    return max(round((timezone.now() - moment).total_seconds(), 3), 0.0) if moment else 0.0
