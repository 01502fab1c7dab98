"""Tasks with an effect that a test can see, and a moment that it can choose."""

import time
from pathlib import Path

from celery import shared_task
from django.contrib.auth import get_user_model


@shared_task(name="probe.hold")
def hold(folder: str, name: str) -> None:
    """Say that it runs, stay until the test opens the gate, and leave one line as its effect."""
    place = Path(folder)
    (place / f"{name}.started").touch()
    deadline = time.monotonic() + 120
    while not (place / f"{name}.gate").exists():
        if time.monotonic() > deadline:
            raise TimeoutError(name)
        time.sleep(0.02)
    with (place / f"{name}.effects").open("a") as effects:
        effects.write("done\n")


@shared_task(name="probe.count_users")
def count_users() -> int:
    """Use the database."""
    return get_user_model().objects.count()
