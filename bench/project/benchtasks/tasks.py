"""Tasks to measure with."""

import time
from pathlib import Path

from celery import shared_task
from django.db import connection


@shared_task(name="bench.noop")
def noop(_number: int) -> None:
    """Do nothing."""


@shared_task(name="bench.row")
def row(number: int) -> None:
    """Update one row."""
    with connection.cursor() as cursor:
        cursor.execute("UPDATE bench_row SET count = count + 1 WHERE id = %s", [number])


@shared_task(name="bench.sleep")
def sleep(seconds: float) -> None:
    """Keep a worker busy and the processor idle."""
    time.sleep(seconds)


@shared_task(name="bench.latency")
def latency(sent: float, file: str) -> None:
    """Write down how long it took from the sender to here, in milliseconds."""
    with Path(file).open("a") as lines:
        lines.write(f"{(time.time() - sent) * 1000}\n")
