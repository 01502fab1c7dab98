"""When beats and relays last gave a sign of life."""

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


def publishing_age() -> float | None:
    """Return how many seconds ago a relay was last able to publish; None when none ever was."""
    last = Heartbeat.objects.filter(name__startswith=f"{PUBLISHING}@").order_by("-at").first()
    return _age(last) if last else None


def relay_ages() -> dict[str, float]:
    """Return how many seconds ago each relay sent its last heartbeat."""
    return {beat.name: _age(beat) for beat in Heartbeat.objects.filter(name__startswith="relay@").order_by("name")}


def _age(beat: Heartbeat) -> float:
    """Return an age that another host's clock cannot make negative."""
    return max(round((timezone.now() - beat.at).total_seconds(), 3), 0.0)
