"""One life of a worker, from its start to its end, as the ledger and the relay see it.

Two threads of the main process: one writes a heartbeat and works off the database calls that the event loop must not
wait for; the other watches that the worker still does what it is for. What it finds wrong it says, and then it ends the
process: the service manager starts that one instance again, and the relay gives its tasks to others.
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
from typing import Any, NoReturn
from uuid import UUID, uuid4

from celery.worker import state
from django.db import DatabaseError, InterfaceError, connection
from django.db.models import F
from django.db.models.functions import Now
from django.utils import timezone

from drumline import storable
from drumline.broker.depth import queue_depths
from drumline.celery_hooks.duty import Duty
from drumline.celery_hooks.pools import blocks_the_loop
from drumline.ledger import services
from drumline.ledger.outages import is_unavailable
from drumline.logs import get_logger
from drumline.message import ledger_id
from drumline.models import DurableTask, Worker
from drumline.systemd import sd_notify
from drumline.worker.names import NameTakenError, living
from drumline.worker.process import this_process

logger = get_logger(__name__)

# Seconds between two heartbeats; the lease is several of them.
HEARTBEAT = 3.0
# Seconds for which the event loop may stand still before the worker counts as stuck.
STUCK = 60.0
# Looks, and seconds between them, for which messages may wait while the worker has nothing to do.
IDLE_LOOKS, LOOK = 4, 6.0
# Seconds after which a task that is claimed here and runs in no process was left open by one that died. A process
# writes its closes within a fraction of one, and a second after the database is back.
LEFT_OPEN = 10.0
# Seconds for which the worker's row shows what was missing and is restored.
SHOWN = 60.0
# Exit status of a worker that ended itself (EX_SOFTWARE).
EXIT_STATUS = 70

_id = uuid4()


def current_id() -> UUID:
    """Return the id of this life; a pool's processes inherit their worker's."""
    return _id


class Life(threading.Thread):
    """Keeps the worker's row; nothing here is for the pool's processes."""

    def __init__(self, controller: Any, before_end: Callable[[], object] = lambda: None) -> None:
        super().__init__(name="drumline-life", daemon=True)
        self.controller = controller
        self._before_end = before_end
        self.draining = False
        self._pid = os.getpid()
        self._ending = threading.Event()
        self._ticked = time.monotonic()
        self._work: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._unfinished: Callable[[], object] | None = None
        self._registered = False
        self._left_open: dict[UUID, float] = {}
        self._next_look = 0.0
        self._idle_looks, self._done_before = 0, -1
        self._duty = Duty(controller.consumer)
        # When something was first missing, and what was missing last, with the moment.
        self._missing_since: float | None = None
        self._missed, self._missed_at = "", 0.0

    def tick(self) -> None:
        """Tell that the event loop turns, and restore what the worker was started for; called from that loop."""
        self._ticked = time.monotonic()
        if self.draining:
            return
        try:
            missing = self._duty.restore(self.controller.consumer)
        except Exception:
            logger.exception("worker_not_restored")
            missing = [self._missed or "its queues and its pool could not be restored"]
        if not missing:
            self._missing_since = None
            return
        self._missing_since = self._missing_since or self._ticked
        self._missed, self._missed_at = "; ".join(missing), self._ticked
        logger.warning("worker_restores_itself", trouble=self._missed)

    def later(self, work: Callable[[], object]) -> None:
        """Have a database call done by this thread, again and again until the database takes it."""
        self._work.put(work)

    def run(self) -> None:
        """Live until the process ends."""
        atexit.register(self.end)
        # Apart, since a database that is frozen holds the other one.
        threading.Thread(target=self._watch, name="drumline-watch", daemon=True).start()
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
                logger.exception("worker_life_failed")
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
                services.worker_release(_id, error="its worker stopped", counted=False)
                Worker.objects.filter(id=_id).update(stopped_at=Now())
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
        """Do a database call; raise only while the database is away, since any other error would come again for ever."""
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
        alive = Worker.objects.filter(id=_id, stopped_at=None).update(
            beats=F("beats") + 1,
            beat_at=Now(),
            running=len(state.active_requests),
            done=sum(state.total_count.values()) - len(state.active_requests),
            queues=",".join(self._consumed()),
            trouble=self._trouble()[:255],
        )
        if not alive:
            end_process("the relay gave this worker up: it was silent for longer than its lease")
        self._take_back_what_was_left_open()

    def _take_back_what_was_left_open(self) -> None:
        now, held = time.monotonic(), _held()
        claimed = DurableTask.objects.filter(worker_id=_id, state=DurableTask.State.RUNNING)
        ids = set(claimed.values_list("id", flat=True)) - held
        self._left_open = {task_id: self._left_open.get(task_id, now) for task_id in ids}
        for task_id, since in self._left_open.items():
            if now - since > LEFT_OPEN:
                lost = partial(services.task_lost, task_id, worker_id=_id)
                self._do(partial(lost, error="its process died before it was closed"))

    def _register(self) -> None:
        name = self.controller.hostname
        Worker.objects.update_or_create(
            id=_id,
            defaults={
                "name": name,
                "host": socket.gethostname(),
                "pid": os.getpid(),
                "process": this_process(),
                "queues": ",".join(self._consumed()),
                "started_at": timezone.now(),
                "beat_at": timezone.now(),
            },
        )
        # Both were started at the same moment, or the database was away when this one looked.
        for other in living(name, besides=_id):
            end_process(str(NameTakenError(other)))
        self._registered = True

    def _consumed(self) -> list[str]:
        """Return what is consumed; without the broker, what will be."""
        return self._duty.consumed(self.controller.consumer) if self._connected() else list(self._duty.queues)

    def _trouble(self) -> str:
        return self._missed if self._missed and time.monotonic() - self._missed_at < SHOWN else ""

    def _connected(self) -> bool:
        # A consumer that has lost its broker keeps the old connection until it has a new one.
        connection = getattr(self.controller.consumer, "connection", None)
        return connection is not None and connection.connected

    def consumes_from(self, channel: Any) -> bool:
        """Return whether the broker delivers through this channel, and not through one of an earlier connection."""
        consumer = getattr(self.controller.consumer, "task_consumer", None)
        return consumer is not None and consumer.channel is channel

    def _watch(self) -> None:
        """End the process when it is alive and of no use."""
        while True:
            try:
                self._watch_once()
            except Exception:
                logger.exception("worker_watch_failed")
            time.sleep(1)

    def _watch_once(self) -> None:
        now = time.monotonic()
        if not self.is_alive() and not self._ending.is_set():
            end_process("the thread that writes its heartbeat has ended")
        if self.draining or not self._connected() or self._runs_in_the_loop():
            self._ticked = now
            self._idle_looks = 0
        elif now - self._ticked > STUCK:
            end_process(f"the event loop has stood still for {STUCK:g} s")
        elif self._missing_since is not None and now - self._missing_since > IDLE_LOOKS * LOOK:
            end_process(f"{self._missed}, again and again for {IDLE_LOOKS * LOOK:g} s")
        elif now >= self._next_look:
            self._next_look = now + LOOK
            self._look()
        sd_notify("WATCHDOG=1", f"STATUS={self.status()}")

    def _runs_in_the_loop(self) -> bool:
        return blocks_the_loop(self.controller.pool) and bool(state.active_requests)

    def _look(self) -> None:
        done = sum(state.total_count.values())
        idle = done == self._done_before and not self._holds_any()
        self._done_before = done
        self._idle_looks = self._idle_looks + 1 if idle and self._messages_wait() else 0
        if self._idle_looks >= IDLE_LOOKS:
            end_process(f"messages wait, and this worker has received none for {IDLE_LOOKS * LOOK:g} s")

    def _holds_any(self) -> bool:
        # A task that waits for its rate limit is not reserved yet.
        buckets = tuple(self.controller.consumer.task_buckets.values())
        limited = any(bucket is not None and bucket.contents for bucket in buckets)
        return limited or bool(state.reserved_requests) or bool(state.active_requests)

    def _messages_wait(self) -> bool:
        try:
            return any(queue_depths(self._duty.queues).values())
        except Exception:  # noqa: BLE001  a broker that does not answer is not the worker's fault
            return False

    def status(self) -> str:
        """Say which queues are consumed, how many tasks run and how many are done."""
        queues, running = ", ".join(self._duty.queues), len(state.active_requests)
        if self.draining:
            return f"{queues}: draining, {running} running"
        if not self._connected():
            return f"{queues}: waiting for the broker, {running} running"
        return f"{queues}: {running} running, {sum(state.total_count.values()) - running} done"


def _held() -> set[UUID]:
    """Return the tasks that this worker's event loop knows."""
    while True:
        try:
            return {ledger_id(request.id) for request in (*state.reserved_requests, *state.active_requests)}
        except RuntimeError:
            # It changed them in between.
            continue


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
        Worker.objects.filter(id=_id).update(trouble=why[:255])
    except (DatabaseError, InterfaceError) as error:
        logger.warning("worker_trouble_not_written", error=str(error))


_life: Life | None = None


def begin(controller: Any, before_end: Callable[[], object] = lambda: None) -> Life:
    """Begin the life of this process's worker; before it gives back what still runs, it does `before_end`."""
    global _life  # noqa: PLW0603  one process is one worker
    _life = Life(controller, before_end)
    return _life


def current() -> Life | None:
    """Return this process's life, in a worker's main process."""
    return _life


def consumes_from(channel: Any) -> bool:
    """See `Life.consumes_from`; nothing is consumed without a life."""
    return _life is not None and _life.consumes_from(channel)


def later(work: Callable[[], Any]) -> None:
    """See `Life.later`; without a life the work is done now."""
    if _life is None:
        work()
    else:
        _life.later(work)
