"""A running worker as Celery keeps it: what it consumes, runs and holds, and how it gets back what was taken from it.

Celery's remote control takes a worker's queues and its pool away for as long as it lives: `cancel_consumer` and
`pool_shrink`, which Flower and everything else that reaches the broker can send. To rest a queue, stop its instances.
"""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

from celery.bootsteps import RUN  # type: ignore[attr-defined]  # incomplete stubs
from celery.worker import state

from drumline.celery_hooks import pools
from drumline.message import ledger_id


class Controller:
    """Celery's controller; its queues and the size of its pool are those that it had when it became ready."""

    def __init__(self, controller: Any) -> None:
        self._controller = controller
        consumer = controller.consumer
        self.name = str(controller.hostname)
        self.queues = tuple(sorted(consumer.app.amqp.queues.consume_from))
        self._size = pools.size(consumer.pool)
        self._prefetch = consumer.initial_prefetch_count

    @property
    def running(self) -> int:
        """Return how many tasks run."""
        return len(state.active_requests)

    @property
    def received(self) -> int:
        """Return how many tasks were started, those that run included."""
        return sum(state.total_count.values())

    def is_connected(self) -> bool:
        """Return whether the worker has its broker."""
        # A consumer that has lost its broker keeps the old connection until it has a new one.
        connection = getattr(self._controller.consumer, "connection", None)
        return connection is not None and connection.connected

    def consumed(self) -> list[str]:
        """Return the queues that are consumed now; without the broker, those that will be."""
        if not self.is_connected():
            return list(self.queues)
        tasks = self._controller.consumer.task_consumer
        return [name for name in self.queues if tasks and tasks.consuming_from(name)]

    def consumes_from(self, channel: Any) -> bool:
        """Return whether the broker delivers through this channel, and not through one of an earlier connection."""
        consumer = getattr(self._controller.consumer, "task_consumer", None)
        return consumer is not None and consumer.channel is channel

    def held(self) -> set[UUID]:
        """Return the tasks that the event loop knows."""
        while True:
            try:
                return {ledger_id(request.id) for request in (*state.reserved_requests, *state.active_requests)}
            except RuntimeError:
                # It changed them in between.
                continue

    def is_idle(self) -> bool:
        """Return whether the worker holds no task at all."""
        # A task that waits for its rate limit is not reserved yet.
        buckets = tuple(self._controller.consumer.task_buckets.values())
        limited = any(bucket is not None and bucket.contents for bucket in buckets)
        return not (limited or state.reserved_requests or state.active_requests)

    def runs_in_the_loop(self) -> bool:
        """Return whether a task runs now in the event loop's place."""
        return pools.blocks_the_loop(self._controller.pool) and bool(state.active_requests)

    def restore(self) -> list[str]:
        """Consume every queue and grow the pool back; return what was missing. Only for the event loop's thread."""
        # Within a connection that is being made, or given up, nothing is missing yet.
        consumer = self._controller.consumer
        tasks = consumer.task_consumer
        if consumer.blueprint.state != RUN or not consumer.connection or not tasks or not tasks.on_message:
            return []
        return [*self._restore_queues(consumer), *self._restore_pool(consumer)]

    def _restore_queues(self, consumer: Any) -> Iterator[str]:
        missing = {name for name in self.queues if not consumer.task_consumer.consuming_from(name)}
        if missing:
            queues = consumer.app.amqp.queues
            # `add_task_queue` alone would last until the next connection.
            queues.select({*self.queues, *queues.consume_from})
        for name in sorted(missing):
            yield f"the consumer of {name} was cancelled"
            consumer.add_task_queue(name)

    def _restore_pool(self, consumer: Any) -> Iterator[str]:
        size = pools.size(consumer.pool)
        if consumer.controller.autoscaler or size >= self._size:
            return
        yield f"the pool had shrunk from {self._size} to {size}"
        consumer.pool.grow(self._size - size)
        # Celery lowered it by what was taken from the pool, and not below one.
        lowered = self._prefetch - consumer.initial_prefetch_count
        if lowered > 0:
            consumer.initial_prefetch_count = self._prefetch
            consumer.qos.increment_eventually(lowered)


_current: Controller | None = None


def begin(controller: Any) -> Controller:
    """Remember the controller of this process's worker, which has just become ready."""
    global _current  # noqa: PLW0603  one process is one worker
    _current = Controller(controller)
    return _current


def consumes_from(channel: Any) -> bool:
    """See `Controller.consumes_from`; nothing is consumed before a worker is ready."""
    return _current is not None and _current.consumes_from(channel)
