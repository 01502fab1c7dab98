"""What sending costs the sender."""

from bench.rig import Rig, Table, interleaved, shell

TIMED = """
import time
from celery import group
from django.db import transaction
from benchtasks.tasks import noop

def timed(send, count):
    started = time.perf_counter()
    send(count)
    return (time.perf_counter() - started) / count * 1000

def one(count):
    for number in range(count):
        noop.delay(number)

def inside(count):
    with transaction.atomic():
        one(count)

def committed(count):
    for number in range(count):
        with transaction.atomic():
            noop.delay(number)

def bulk(count):
    group(noop.si(number) for number in range(count)).apply_async()

def many(count):
    from drumline import send_many

    send_many(noop, ((number,) for number in range(count)))

one(50)
bulk(50)
print(timed({what}, {count}))
"""


def run(rig: Rig, table: Table, runs: int) -> None:
    def variant(mode: str, what: str, count: int):
        def figure() -> float:
            with rig.application(mode) as application:
                milliseconds = float(shell(application, TIMED.format(what=what, count=count)))
            rig.sql("TRUNCATE drumline_ledger")
            return milliseconds

        return figure

    got = interleaved(
        runs,
        {
            "plain": variant("off", "one", 1000),
            "inside": variant("ledger", "inside", 1000),
            "committed": variant("ledger", "committed", 1000),
            "plain bulk": variant("off", "bulk", 10000),
            "bulk": variant("ledger", "bulk", 10000),
            "many": variant("ledger", "many", 10000),
        },
    )
    plain, bulk = got["plain"], got["bulk"]
    beside = f"plain .delay() {plain:.2f} ms"
    table.add(
        f"one task in an open transaction: {got['inside']:.2f} ms",
        "<= 1.2 x plain .delay()",
        f"{got['inside'] / plain:.2f} x",
        f"{beside}; the publish after the commit is in both",
    )
    table.add(
        f"a transaction for each task: {got['committed']:.2f} ms", "", f"{got['committed'] / plain:.2f} x", beside
    )
    table.add(
        f"group of 10,000: {1000 / bulk:.0f}/s",
        ">= 2.5 x Celery's group",
        f"{got['plain bulk'] / bulk:.2f} x",
        f"Celery's group {1000 / got['plain bulk']:.0f}/s",
    )
    table.add(
        f"send_many of 10,000: {1000 / got['many']:.0f}/s",
        ">= 5 x Celery's group",
        f"{got['plain bulk'] / got['many']:.2f} x",
        f"Celery's group {1000 / got['plain bulk']:.0f}/s",
    )
