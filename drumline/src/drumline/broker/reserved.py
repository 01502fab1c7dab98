"""Durable messages that this worker has taken from Redis and not yet acknowledged; Redis does not have them any more.

A message only rings for its row, so nobody puts it back: whatever this worker leaves is published again by the relay.
The heartbeat writes the tasks down, for a worker that dies.
"""

from uuid import UUID

# By delivery tag. Kept by the event loop, and by the threads of a pool without processes.
_tasks: dict[str, UUID] = {}


def reserve(tag: str, task_id: UUID) -> None:
    """Note that this worker has a message for a task."""
    _tasks[tag] = task_id


def acknowledge(tag: str) -> None:
    """Forget a message that was acknowledged, or that another one has taken the place of."""
    _tasks.pop(tag, None)


def tasks() -> set[UUID]:
    """Return the tasks whose messages this worker has, those that run included."""
    # A copy is made in one step, an iteration is not.
    return set(_tasks.copy().values())


def forget() -> set[UUID]:
    """Forget every message, as after the connection is lost, and return the tasks."""
    left = tasks()
    _tasks.clear()
    return left
