"""How long a task of `high` waits while `low` is flooded, each with workers of its own."""

import statistics

from bench.rig import Rig, Table, shell, worker
from bench.throughput import wait

FLOOD, PROBES = 20_000, 300

SEND = """
import time
from celery import group
from benchtasks.tasks import latency, sleep

group(sleep.si(0.05).set(queue="low") for _ in range({flood})).apply_async()
for _ in range({probes}):
    latency.apply_async((time.time(), {file!r}), queue="high")
    time.sleep(0.05)
"""


def run(rig: Rig, table: Table, runs: int) -> None:
    figures: dict[str, list[tuple[float, float]]] = {"off": [], "ledger": []}
    for _ in range(runs):
        for mode, measured in figures.items():
            measured.append(percentiles(rig, mode))
    (off50, off99), (p50, p99) = (
        tuple(statistics.median(run[i] for run in figures[mode]) for i in (0, 1)) for mode in ("off", "ledger")
    )
    table.add(
        f"high while low holds {FLOOD:,} tasks of 50 ms",
        "p99 <= 10 ms",
        f"p50 {p50:.1f}, p99 {p99:.1f} ms",
        f"ledger off: p50 {off50:.1f}, p99 {off99:.1f} ms",
    )
    table.add("", "p99 <= 1.2 x the ledger off", f"{p99 / off99:.2f} x", "")


def percentiles(rig: Rig, mode: str) -> tuple[float, float]:
    with rig.application(mode) as application:
        file = application.folder / "latencies"
        for queue in ("high", "low"):
            worker(application, queue, concurrency=2)
        wait(lambda: rig.redis.client.scard("_kombu.binding.celery.pidbox") >= 2)
        shell(application, SEND.format(flood=FLOOD, probes=PROBES, file=str(file)))
        wait(lambda: file.exists() and len(file.read_text().splitlines()) == PROBES)
        latencies = sorted(float(line) for line in file.read_text().splitlines()[20:])
    rig.sql("TRUNCATE drumline_ledger")
    return latencies[len(latencies) // 2], latencies[int(len(latencies) * 0.99)]
