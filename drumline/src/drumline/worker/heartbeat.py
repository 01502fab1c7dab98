"""The heartbeat: a thread of the worker's main process that keeps its row, by which the relay knows that it lives.

It also works off the database calls that the event loop must not wait for.
"""

import atexit
import os
import queue
import socket
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import Any, NoReturn

from django.db import DatabaseError, InterfaceError, connection
from django.db.models import F
from django.db.models.functions import Now
from django.utils import timezone

from drumline import storable
from drumline.broker import reserved
from drumline.ledger.outages import is_unavailable
from drumline.ledger.recovery import messages_left, task_lost, worker_release
from drumline.logs import get_logger
from drumline.models import DurableTask, Worker
from drumline.worker.identity import NameTakenError, current_id, living, this_process
from drumline.worker.watchdog import EXIT_STATUS, CeleryWorker

logger = get_logger(__name__)

# Seconds between two heartbeats; the lease is several of them.
HEARTBEAT = 3.0
# Seconds after which a task that is claimed here and runs in no process was left open by one that died. A process
# writes its closes within a fraction of one, and a second after the database is back.
LEFT_OPEN = 10.0
# Reserved tasks that a heartbeat writes down. A longer list costs more than what it saves: the relay finds the rest when
# later messages start.
RESERVED = 1000


class HeartbeatThread(threading.Thread):
    """Keeps the worker's row; nothing here is for the pool's processes."""

    def __init__(
        self,
        celery: CeleryWorker,
        *,
        trouble: Callable[[], str] = lambda: "",
        before_end: Callable[[], object] = lambda: None,
    ) -> None:
        super().__init__(name="drumline-heartbeat", daemon=True)
        self._celery = celery
        self._trouble = trouble
        self._before_end = before_end
        self._pid = os.getpid()
        self._ending = threading.Event()
        self._work: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._unfinished: Callable[[], object] | None = None
        self._registered = False
        self._left_open: dict[Any, float] = {}

    @property
    def failed(self) -> bool:
        """Return whether the thread has ended without having been asked to."""
        return not self.is_alive() and not self._ending.is_set()

    def later(self, work: Callable[[], object]) -> None:
        """Have a database call done by this thread, again and again until the database takes it."""
        self._work.put(work)

    def run(self) -> None:
        """Go on until the process ends."""
        atexit.register(self.end)
        beat_due = 0.0
        while not self._ending.is_set():
            try:
                if time.monotonic() >= beat_due:
                    self._beat()
                    beat_due = time.monotonic() + HEARTBEAT
                self._work_off(seconds=1.0)
            except (DatabaseError, InterfaceError) as error:
                logger.warning("worker_database_unavailable", error=storable.error_text(error))
                connection.close()
                time.sleep(1)
            except Exception:
                # Without this thread the relay would take a worker that works for dead.
                logger.exception("worker_heartbeat_failed")
                time.sleep(1)

    def end(self) -> None:
        """Write what is left, and give back what still runs; the database has five seconds for it."""
        if os.getpid() != self._pid:
            return
        deadline = time.monotonic() + 5
        # One thread at a time: a heartbeat after the last word would take this for a worker that was given up.
        self._ending.set()
        self._before_end()
        self.later(lambda: None)
        self.join(5)
        while not self.is_alive() and time.monotonic() < deadline:
            try:
                self._work_off(seconds=0)
                messages_left(reserved.tasks())
                worker_release(current_id(), error="its worker stopped", counted=False)
                Worker.objects.filter(id=current_id()).update(stopped_at=Now())
            except (DatabaseError, InterfaceError):
                connection.close()
                time.sleep(0.5)
            else:
                return

    def _work_off(self, *, seconds: float) -> None:
        while True:
            if self._unfinished is None:
                try:
                    self._unfinished = self._work.get(timeout=seconds) if seconds else self._work.get_nowait()
                except queue.Empty:
                    return
            self._do(self._unfinished)
            self._unfinished = None
            # Only for the first: whoever ends the worker waits for this thread.
            seconds = 0

    def _do(self, work: Callable[[], object]) -> None:
        """Make a database call; raise only while the database is unreachable, since any other error would recur."""
        try:
            work()
        except Exception as error:
            if is_unavailable(error):
                raise
            # What the call was about stays claimed by this worker, which takes it back after LEFT_OPEN seconds.
            logger.exception("worker_call_refused", call=repr(work))

    def _beat(self) -> None:
        if not self._registered:
            self._register()
        running = self._celery.running
        alive = Worker.objects.filter(id=current_id(), stopped_at=None).update(
            beats=F("beats") + 1,
            beat_at=Now(),
            running=running,
            done=self._celery.received - running,
            queues=",".join(self._celery.consumed()),
            trouble=self._trouble()[:255],
            reserved=[str(task_id) for task_id in islice(reserved.tasks(), RESERVED)],
        )
        if not alive:
            end_process("the relay declared this worker dead: it sent no heartbeat for longer than its lease")
        self._take_back_what_was_left_open()

    def _take_back_what_was_left_open(self) -> None:
        now, held = time.monotonic(), self._celery.held()
        claimed = DurableTask.objects.filter(worker_id=current_id(), state=DurableTask.State.RUNNING)
        ids = set(claimed.values_list("id", flat=True)) - held
        self._left_open = {task_id: self._left_open.get(task_id, now) for task_id in ids}
        for task_id, since in self._left_open.items():
            if now - since > LEFT_OPEN:
                lost = partial(task_lost, task_id, worker_id=current_id())
                self._do(partial(lost, error="its process died before it was closed"))

    def _register(self) -> None:
        Worker.objects.update_or_create(
            id=current_id(),
            defaults={
                "name": self._celery.name,
                "host": socket.gethostname(),
                "pid": os.getpid(),
                "process": this_process(),
                "queues": ",".join(self._celery.consumed()),
                "started_at": timezone.now(),
                "beat_at": timezone.now(),
            },
        )
        # Both were started at the same moment, or the database was away when this one looked.
        for other in living(self._celery.name, besides=current_id()):
            end_process(str(NameTakenError(other)))
        self._registered = True


def end_process(why: str) -> NoReturn:
    """End this worker at once; its pool's processes die with it."""
    logger.error("worker_ends_itself", why=why)
    sys.stderr.flush()
    # In a thread, since the database may be what does not answer.
    note = threading.Thread(target=_note, args=(why,), daemon=True)
    note.start()
    note.join(2)
    os._exit(EXIT_STATUS)


def _note(why: str) -> None:
    try:
        Worker.objects.filter(id=current_id()).update(trouble=why[:255])
    except (DatabaseError, InterfaceError) as error:
        logger.warning("worker_trouble_not_written", error=str(error))


_thread: HeartbeatThread | None = None


def begin(celery: CeleryWorker, *, trouble: Callable[[], str], before_end: Callable[[], object]) -> HeartbeatThread:
    """Begin the heartbeat of this process's worker; before it gives back what still runs, it does `before_end`."""
    global _thread  # noqa: PLW0603  one process is one worker
    _thread = HeartbeatThread(celery, trouble=trouble, before_end=before_end)
    _thread.start()
    return _thread


def leave_reserved() -> None:
    """Leave the messages that this worker has to the relay: it stops, or has lost the connection that they came by."""
    left = reserved.forget()
    if left:
        later(partial(messages_left, left))


def later(work: Callable[[], Any]) -> None:
    """See `HeartbeatThread.later`; where no worker has its heartbeat, the work is done now."""
    if _thread is None:
        work()
    else:
        _thread.later(work)
