"""The tasks of this application, where Celery's autodiscovery finds them."""

import socket
import time
from datetime import UTC, datetime

from celery import Task, shared_task

from drumline import conf

# What runs the tasks of `django.tasks`, or of its backport, where the project has some.
if conf.has_django_tasks():
    from drumline.tasks_backend.carrier import run_task as run_task  # noqa: PLC0414  for Celery

# Long enough to watch a worker drain, and shorter than the time limit of any queue.
LONGEST_SECONDS = 30.0


@shared_task(name="drumline.ping", bind=True, ignore_result=False)
def ping(self: "Task[[float], dict[str, str]]", seconds: float = 0) -> dict[str, str]:
    """Prove that a queue is consumed: say which queue delivered this message, which worker on which host ran it, and when.

    `seconds` keeps the worker busy for that long first, 30 at the most: that is how a drain can be watched.
    """
    time.sleep(min(max(seconds, 0), LONGEST_SECONDS))
    return {
        "queue": str((self.request.delivery_info or {}).get("routing_key", "")),
        "worker": str(self.request.hostname or ""),
        "host": socket.gethostname(),
        "at": datetime.now(UTC).isoformat(),
    }
