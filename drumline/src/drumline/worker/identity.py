"""Which worker this process is: an id for this life of it, its process, and a name that no other worker lives under."""

import os
import time
from pathlib import Path
from uuid import UUID, uuid4

from django.db import DatabaseError, InterfaceError, connection
from django.db.models.functions import Now

from drumline import conf
from drumline.ledger.recovery import worker_release
from drumline.logs import get_logger
from drumline.models import Worker
from drumline.systemd import sd_notify

logger = get_logger(__name__)

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
# Seconds between two looks at a worker that may be dead.
PAUSE = 0.5

_id = uuid4()


def current_id() -> UUID:
    """Return the id of this life; a pool's processes inherit their worker's."""
    return _id


class NameTakenError(Exception):
    """A worker of this name is alive."""

    def __init__(self, worker: Worker) -> None:
        super().__init__(
            f"the worker {worker.name} is alive on {worker.host} as process {worker.pid}. Two workers with the same name would "
            "take each other's tasks. Start this one with another --hostname, or stop the other one"
        )


def wait_for_name(name: str) -> None:
    """Return once no living worker has the name; raise NameTakenError as soon as one sends a heartbeat.

    A worker whose process has ended on this machine is dead immediately; any other is dead once it has sent no heartbeat
    for a lease, by this process's clock. Without a database nothing is known, so registering checks again.
    """
    seen: dict[UUID, tuple[int, float]] = {}
    try:
        while others := living(name):
            for other in others:
                if other.id not in seen:
                    logger.warning("worker_waits_for_name", worker=name, host=other.host, pid=other.pid)
                    sd_notify(f"STATUS=waiting until {name} on {other.host} is dead")
                beats, since = seen.setdefault(other.id, (other.beats, time.monotonic()))
                if other.beats != beats:
                    raise NameTakenError(other)
                if time.monotonic() - since > conf.lease():
                    _give_up(other, "silent for longer than its lease")
            time.sleep(PAUSE)
    except (DatabaseError, InterfaceError) as error:
        logger.warning("worker_name_not_checked", worker=name, error=str(error))
    finally:
        # The pool's processes must not inherit it.
        connection.close()


def living(name: str, *, besides: UUID | None = None) -> list[Worker]:
    """Return the other workers of this name that may be alive; take back what those held whose process has ended."""
    others = Worker.objects.filter(name=name, stopped_at=None)
    if besides is not None:
        others = others.exclude(id=besides)
    return [other for other in others if not (has_ended(other.process) and _give_up(other, "its process ended"))]


def _give_up(worker: Worker, trouble: str) -> bool:
    """Recover the tasks of a dead worker; return False if it has sent a heartbeat."""
    silent = Worker.objects.filter(id=worker.id, beats=worker.beats, stopped_at=None)
    if not silent.update(stopped_at=Now(), trouble=trouble):
        return False
    logger.warning("worker_dead", worker=str(worker.id), worker_name=worker.name, trouble=trouble)
    worker_release(worker.id, error="its worker died")
    return True


def this_process() -> str:
    """Return the machine's boot and PID namespace, the PID and the start of this process; empty when they are unknown."""
    machine, pid = _machine(), os.getpid()
    return f"{machine} {pid} {_start(pid)}" if machine else ""


def has_ended(process: str) -> bool:
    """Return whether a process is known to have ended; False when it lives, and when this process cannot know.

    A PID means something within one boot of one machine and one PID namespace. The start tells a process from a later
    one with the same PID; the process of another user may not be read, and then counts as alive.
    """
    machine, pid, start = process.split() if process else ("", "", "")
    if not machine or machine != _machine():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return _start(int(pid)) not in {start, ""}


def _machine() -> str:
    """Return the boot and the PID namespace; empty when the boot cannot be told from that of another machine.

    A unit with `ProcSubset=pid` does not see the boot's id, and is given it as BOOT_ID.
    """
    try:
        boot = BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        boot = os.environ.get("BOOT_ID", "")
    try:
        namespace = Path("/proc/self/ns/pid").readlink()
    except OSError:
        return ""
    return f"{boot.replace('-', '')}/{namespace}" if boot else ""


def _start(pid: int) -> str:
    """Return when a process started, in ticks since the boot; `ended` for a zombie, empty when it may not be read."""
    try:
        # The name, in parentheses, may hold anything.
        state, *fields = (
            Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        )
    except OSError:
        return ""
    return "ended" if state in "ZX" else fields[18]
