"""What a worker was started for, its queues and its pool, and how it gets both back.

Celery's remote control takes them away for as long as the worker lives: `cancel_consumer` and `pool_shrink`, which Flower
and everything else that reaches the broker can send. To rest a queue, stop its instances.
"""

from collections.abc import Iterator
from typing import Any

from celery.bootsteps import RUN  # type: ignore[attr-defined]  # incomplete stubs


class Duty:
    """The queues that a worker consumes and the size of its pool, as they were when it became ready."""

    def __init__(self, consumer: Any) -> None:
        self.queues = tuple(sorted(consumer.app.amqp.queues.consume_from))
        self._size = _size(consumer.pool)
        self._prefetch = consumer.initial_prefetch_count

    def restore(self, consumer: Any) -> list[str]:
        """Consume every queue and grow the pool back; return what was missing. Only for the event loop's thread."""
        # Within a connection that is being made, or given up, nothing is missing yet.
        tasks = consumer.task_consumer
        if consumer.blueprint.state != RUN or not consumer.connection or not tasks or not tasks.on_message:
            return []
        return [*self._restore_queues(consumer), *self._restore_pool(consumer)]

    def consumed(self, consumer: Any) -> list[str]:
        """Return the queues that are consumed now."""
        tasks = consumer.task_consumer
        return [name for name in self.queues if tasks and tasks.consuming_from(name)]

    def _restore_queues(self, consumer: Any) -> Iterator[str]:
        missing = set(self.queues) - set(self.consumed(consumer))
        if missing:
            queues = consumer.app.amqp.queues
            # `add_task_queue` alone would last until the next connection.
            queues.select({*self.queues, *queues.consume_from})
        for name in sorted(missing):
            yield f"the consumer of {name} was cancelled"
            consumer.add_task_queue(name)

    def _restore_pool(self, consumer: Any) -> Iterator[str]:
        size = _size(consumer.pool)
        if consumer.controller.autoscaler or size >= self._size:
            return
        yield f"the pool had shrunk from {self._size} to {size}"
        consumer.pool.grow(self._size - size)
        # Celery lowered it by what was taken from the pool, and not below one.
        lowered = self._prefetch - consumer.initial_prefetch_count
        if lowered > 0:
            consumer.initial_prefetch_count = self._prefetch
            consumer.qos.increment_eventually(lowered)


def _size(pool: Any) -> int:
    """Return for how many tasks at once there is room; gevent counts what runs as its number of processes."""
    return int(pool._pool.size if pool.is_green and hasattr(pool._pool, "_semaphore") else pool.num_processes)  # noqa: SLF001
