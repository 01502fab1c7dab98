"""Each run leaves a row when it starts and when it ends; each task has one effect, whatever the number of its runs."""

import os
import resource
import signal
import time

from celery import shared_task
from celery.exceptions import SoftTimeLimitExceeded
from django.db import InterfaceError, OperationalError, connection

STARTED = "INSERT INTO run (task_id, parent, pid) VALUES (%s, %s, %s) RETURNING id"
SCHEDULED = "INSERT INTO scheduled (task_id, entry) VALUES (%s, %s) ON CONFLICT DO NOTHING"
ENDED = """WITH done AS (INSERT INTO effect (task_id) VALUES (%s) ON CONFLICT DO NOTHING)
    UPDATE run SET ended = clock_timestamp() WHERE id = %s"""


def started(task_id: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(STARTED, [task_id, os.getppid(), os.getpid()])
        return cursor.fetchone()[0]


def ended(task_id: str, run: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute(ENDED, [task_id, run])


@shared_task(name="faults.effect", bind=True)
def effect(self, seconds: float = 0) -> None:
    """Take so long, and have the effect at the end."""
    run = started(self.request.id)
    if seconds:
        time.sleep(seconds)
    ended(self.request.id, run)


@shared_task(
    name="faults.effect_in_spite",
    bind=True,
    autoretry_for=(InterfaceError, OperationalError),
    retry_kwargs={"max_retries": None, "countdown": 2},
)
def effect_in_spite(self, seconds: float = 0) -> None:
    """Do the same, and try again when the database is away, as a task does that needs it."""
    run = started(self.request.id)
    time.sleep(seconds)
    ended(self.request.id, run)


@shared_task(
    name="faults.scheduled",
    bind=True,
    autoretry_for=(InterfaceError, OperationalError),
    retry_kwargs={"max_retries": None, "countdown": 2},
)
def scheduled(self, entry: str) -> None:
    """Say which entry of the schedule sent it."""
    run = started(self.request.id)
    with connection.cursor() as cursor:
        cursor.execute(SCHEDULED, [self.request.id, entry])
    ended(self.request.id, run)


@shared_task(name="faults.exit", bind=True)
def exit_(self) -> None:
    """End the process as a library might."""
    started(self.request.id)
    os._exit(1)


@shared_task(name="faults.segmentation_fault", bind=True)
def segmentation_fault(self) -> None:
    """Crash as native code does."""
    started(self.request.id)
    os.kill(os.getpid(), signal.SIGSEGV)
    time.sleep(60)


@shared_task(name="faults.killed", bind=True)
def killed(self) -> None:
    """Be killed as the kernel does it, out of memory."""
    started(self.request.id)
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


@shared_task(name="faults.allocate", bind=True)
def allocate(self) -> None:
    """Take memory without end, up to the limit that is set for this process."""
    started(self.request.id)
    resource.setrlimit(resource.RLIMIT_AS, (2 << 30, resource.getrlimit(resource.RLIMIT_AS)[1]))
    held = []
    try:
        while True:
            held.append(bytearray(64 << 20))
    finally:
        held.clear()
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


@shared_task(name="faults.memory_error", bind=True)
def memory_error(self) -> None:
    """Raise what ends a stock worker."""
    started(self.request.id)
    raise MemoryError


@shared_task(name="faults.recurse", bind=True)
def recurse(self) -> None:
    """Call oneself without end."""
    started(self.request.id)

    def deeper(depth: int) -> int:
        return deeper(depth + 1)

    deeper(0)


@shared_task(name="faults.huge_result", bind=True, ignore_result=False)
def huge_result(self) -> str:
    """Return 100 MB."""
    started(self.request.id)
    return "x" * (100 << 20)


@shared_task(name="faults.deaf", bind=True, soft_time_limit=2, time_limit=5)
def deaf(self) -> None:
    """Ignore the soft limit."""
    started(self.request.id)
    while True:
        try:
            time.sleep(60)
        except SoftTimeLimitExceeded:
            continue


@shared_task(name="faults.fail", bind=True)
def fail(self) -> None:
    """Fail for good, after the effect."""
    ended(self.request.id, started(self.request.id))
    raise RuntimeError("for good")


@shared_task(name="faults.retry_once", bind=True, max_retries=1)
def retry_once(self) -> None:
    """Have the effect the second time."""
    run = started(self.request.id)
    if not self.request.retries:
        raise self.retry(countdown=0.2)
    ended(self.request.id, run)


@shared_task(name="faults.effect_across", bind=True)
def effect_across(self, seconds: float) -> None:
    """Work for so long without the database, and wait for it at the end."""
    run = started(self.request.id)
    time.sleep(seconds)
    while True:
        try:
            ended(self.request.id, run)
        except (InterfaceError, OperationalError):
            connection.close()
            time.sleep(0.5)
        else:
            return
