"""Whether every queue that tasks are sent to, or wait in, is served."""

from collections.abc import Iterable, Iterator

from celery import Celery

from drumline.ledger.selectors import queue_states
from drumline.preflight.routes import declared_queues, routed_queues


def serving_problems(app: Celery, served: Iterable[str]) -> Iterator[str]:
    """Yield one line for each queue that is sent to and not served, or served and not declared."""
    served, declared, routed = set(served), declared_queues(app), routed_queues(app)
    yield from routed.problems
    for queue in sorted(routed.queues.keys() - served):
        senders = ", ".join(routed.queues[queue])
        yield f"queue {queue} is not served, but {senders} sends to it; serve it or change the route"
    if not app.conf.task_create_missing_queues:
        for queue in sorted(served - declared):
            yield f"queue {queue} is served but not declared in task_queues, so its worker would not start; declare it"


def routing_notes(app: Celery) -> Iterator[str]:
    """Yield one line for each route that cannot be read as a whole."""
    yield from routed_queues(app).notes


def waiting_problems(served: Iterable[str]) -> Iterator[str]:
    """Yield one line for each queue in which tasks wait and that is not served; raise DatabaseError without a ledger."""
    served = set(served)
    for queue, state in queue_states().items():
        if state.open and queue not in served:
            yield (
                f"queue {queue} is not served, but {state.open} tasks wait in it; serve it, or move them to another "
                f"queue: drumline-manage queues move {queue} QUEUE"
            )
