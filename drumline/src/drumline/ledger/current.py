"""The run that this thread is in, and the message that is to take its place."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from drumline.ledger.store import RunKey
from drumline.message import Message


class CurrentRun:
    """What this thread runs now."""

    def __init__(self, key: RunKey) -> None:
        self.key = key
        # The message that takes this one's place: a retry, or Task.replace.
        self.replacement: Message | None = None
        # What the task leaves to be kept with its row: the value that it returned, as JSON in ASCII, or the import path
        # of the exception's class. Celery's tasks leave neither.
        self.result: str | None = None
        self.exception = ""


class _ThisThread(threading.local):
    run: CurrentRun | None = None


_this_thread = _ThisThread()


def current_run() -> CurrentRun | None:
    """Return what this thread runs under a claim."""
    return _this_thread.run


def replaced_by(message: Message) -> bool:
    """Keep a message that has the running task's own id until the run ends, and return whether it was one.

    A retry is sent from within the task, whose transaction is then rolled back; the ledger must not lose it with that.
    """
    run = _this_thread.run
    if run is None or run.key.task_id != message.id:
        return False
    run.replacement = message
    return True


@contextmanager
def running(key: RunKey) -> Iterator[CurrentRun]:
    """Have this thread run a task within."""
    run = _this_thread.run = CurrentRun(key)
    try:
        yield run
    finally:
        _this_thread.run = None
