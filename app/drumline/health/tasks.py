"""The task that proves a queue is consumed."""

import socket
from datetime import UTC, datetime

from celery import Task, shared_task


@shared_task(name="core.ping", bind=True)
def ping(self: "Task[[], dict[str, str]]") -> dict[str, str]:
    """Say which queue delivered this message, on which host, and when."""
    return {
        "queue": str((self.request.delivery_info or {}).get("routing_key", "")),
        "host": socket.gethostname(),
        "at": datetime.now(UTC).isoformat(),
    }
