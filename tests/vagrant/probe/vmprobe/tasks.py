"""Memory without end, a processor until told to stop, and a stated amount of work."""

import time
from pathlib import Path

from celery import shared_task

# Where every service of Drumline may look.
STOP = Path("/var/lib/drumline/stop-burning")
BLOCK = 8 << 20


@shared_task(name="vm.hog")
def hog() -> None:
    """Take memory until killed."""
    held = []
    while True:
        held.append(b"\1" * BLOCK)


@shared_task(name="vm.burn")
def burn() -> None:
    """Keep a processor busy until the file is there."""
    while not STOP.exists():
        for _ in range(200_000):
            pass


@shared_task(name="vm.work", ignore_result=False)
def work(seconds: float) -> float:
    """Use so many seconds of a processor, and return how long that took."""
    begun, until = time.monotonic(), time.process_time() + seconds
    while time.process_time() < until:
        for _ in range(20_000):
            pass
    return time.monotonic() - begun
