"""What the tasks do, the same for every peer. Each peer has one task: `perform`, with the name of a body and a value."""

import os
import socket
import time

from django.db import connection

# A byte for each task that ran, from every process: counting costs a task two microseconds.
RAN = os.open(os.environ["BENCH_RAN"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
HEARD = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)


def perform(body: str, value: float) -> None:
    BODIES[body](value)
    os.write(RAN, b".")


def noop(_value: float) -> None:
    """Do nothing."""


def row(value: float) -> None:
    """Update one row."""
    with connection.cursor() as cursor:
        cursor.execute("UPDATE bench_row SET count = count + 1 WHERE id = %s", [value])


def sleep(value: float) -> None:
    """Keep a worker busy and the processor idle, for so many seconds."""
    time.sleep(value)


def hear(value: float) -> None:
    """Tell the sender how many seconds ago it sent this."""
    HEARD.sendto(str(time.monotonic() - value).encode(), os.environ["BENCH_HEARD"])


def effect(value: float) -> None:
    """Leave a row at the start, and complete it five milliseconds later."""
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO bench_run (number) VALUES (%s) RETURNING id", [value])
        [run] = cursor.fetchone()
        time.sleep(0.005)
        cursor.execute("UPDATE bench_run SET ended = clock_timestamp() WHERE id = %s", [run])


BODIES = {"noop": noop, "row": row, "sleep": sleep, "hear": hear, "effect": effect}
