"""One worker lives under a name: a second one waits until the first is dead, or does not start."""

import time
from uuid import UUID

from django.db import DatabaseError, InterfaceError, connection
from django.db.models.functions import Now

from drumline import conf
from drumline.ledger import services
from drumline.logs import get_logger
from drumline.models import Worker
from drumline.systemd import sd_notify
from drumline.worker.process import has_ended

logger = get_logger(__name__)

# Seconds between two looks at a worker that may be dead.
PAUSE = 0.5


class NameTakenError(Exception):
    """A worker of this name is alive."""

    def __init__(self, worker: Worker) -> None:
        super().__init__(
            f"the worker {worker.name} is alive on {worker.host} as process {worker.pid}. Two workers of one name would "
            "take each other's tasks: start this one with another --hostname, or stop the other one"
        )


def wait_for_name(name: str) -> None:
    """Return once no other worker lives under the name; raise NameTakenError as soon as one gives a sign of life.

    A worker is dead at once when its process has ended on this machine, and otherwise when it has given no sign of life
    for a lease by this process's clock. Without a database nothing is known: whoever registers looks again.
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
    """Take back what a dead worker held; return False when it has given a sign of life."""
    silent = Worker.objects.filter(id=worker.id, beats=worker.beats, stopped_at=None)
    if not silent.update(stopped_at=Now(), trouble=trouble):
        return False
    logger.warning("worker_dead", worker=str(worker.id), worker_name=worker.name, trouble=trouble)
    services.worker_release(worker.id, error="its worker died")
    return True
