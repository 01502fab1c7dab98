"""Tasks per second at concurrency 2, from 10 to 100 % of a backlog."""

import time

from bench.rig import Rig, Table, interleaved, shell, worker

LAYOUTS = {"two workers of one child": (2, 1), "one worker of two children": (1, 2)}
BACKLOG = {"reference": 1000, "off": 5000, "ledger": 5000}
TASKS = ("noop", "row")


def run(rig: Rig, table: Table, runs: int) -> None:
    rig.sql("CREATE TABLE bench_row (id int PRIMARY KEY, count int NOT NULL)")
    rig.sql("INSERT INTO bench_row SELECT n, 0 FROM generate_series(0, 9999) n")
    for task in TASKS:
        for layout in LAYOUTS:
            variants = {
                mode: lambda mode=mode, layout=layout, task=task: rate(rig, mode, task, layout) for mode in BACKLOG
            }
            got = interleaved(runs, variants)
            beside = f"reference {got['reference']:.0f}/s, ledger off {got['off']:.0f}/s"
            what = f"{task}, {layout}: {got['ledger']:.0f}/s"
            table.add(what, ">= 8 x the reference", f"{got['ledger'] / got['reference']:.1f} x", beside)
            table.add("", ">= 1.0 x the ledger off", f"{got['ledger'] / got['off']:.2f} x", "")


def rate(rig: Rig, mode: str, task: str, layout: str) -> float:
    backlog = BACKLOG[mode]
    with rig.application(mode) as application:
        shell(
            application,
            f"from celery import group\nfrom benchtasks.tasks import {task}\n"
            f"group({task}.si(number) for number in range({backlog})).apply_async()",
        )
        workers, children = LAYOUTS[layout]
        for number in range(workers):
            worker(application, "default", number=number, concurrency=children)
        wait(lambda: rig.redis.client.llen("default") <= backlog * 0.9)
        left, started = rig.redis.client.llen("default"), time.perf_counter()
        wait(lambda: not rig.redis.client.llen("default") and not rig.redis.client.hlen("unacked"))
        seconds = time.perf_counter() - started
    rig.sql("TRUNCATE drumline_ledger, django_celery_results_taskresult CASCADE")
    return left / seconds


def wait(condition, seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the backlog does not shrink")
        time.sleep(0.005)
