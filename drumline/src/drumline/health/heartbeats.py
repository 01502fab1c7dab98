"""Heartbeats: services that write them and selectors that read them."""

import os
import socket
from datetime import timedelta

from django.utils import timezone

from drumline.models import Heartbeat

# Written, followed by @HOST, by a relay that is able to publish: it has just published something, or nothing is due.
PUBLISHING = "publishing"


def heartbeat_write(*, name: str) -> None:
    """Record that this process is alive now."""
    Heartbeat.objects.update_or_create(
        name=name, defaults={"host": socket.gethostname(), "pid": os.getpid(), "at": timezone.now()}
    )


def heartbeat_ages() -> dict[Heartbeat, timedelta]:
    """Return every heartbeat with its age, oldest first."""
    now = timezone.now()
    return {heartbeat: now - heartbeat.at for heartbeat in Heartbeat.objects.order_by("at")}
