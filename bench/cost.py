"""What one task costs the servers and its worker: seconds of a core, bytes written, bytes kept.

Processor time depends little on what else a machine does, so these figures carry to another one better than tasks per second.
"""

from bench.procfs import seconds
from bench.rig import Rig, Table, shell, worker
from bench.throughput import wait

TASKS = 5000
SEND = """
from django.db import transaction
from benchtasks.tasks import {task}
for number in range({count}):
    with transaction.atomic():
        {task}.delay(number)
"""
USED = """
SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint, xact_commit, pg_total_relation_size('drumline_ledger')
FROM pg_stat_database WHERE datname = current_database()
"""


def run(rig: Rig, table: Table, _runs: int) -> None:
    rig.sql("CREATE TABLE bench_row (id int PRIMARY KEY, count int NOT NULL)")
    rig.sql("INSERT INTO bench_row SELECT n, 0 FROM generate_series(0, 9999) n")
    for task in ("noop", "row"):
        for mode in ("off", "ledger"):
            sent, ended = cost(rig, mode, task)
            for what, figures in ((f"{task} sent, {mode}", sent), (f"{task} run, {mode}", ended)):
                table.add(what, "", *figures)


def cost(rig: Rig, mode: str, task: str) -> tuple[tuple[str, str], tuple[str, str]]:
    """Return what sending a task costs, and what running one does."""
    with rig.application(mode) as application:
        shell(application, SEND.format(task=task, count=10))
        before = Meter(rig)
        shell(application, SEND.format(task=task, count=TASKS))
        sent = Meter(rig).since(before)
        before = Meter(rig)
        process = worker(application, "default")
        wait(lambda: not rig.redis.client.llen("default") and not rig.redis.client.hlen("unacked"))
        ended = Meter(rig).since(before, seconds(process.popen.pid))
    return sent, ended


class Meter:
    """What the servers have used until now."""

    def __init__(self, rig: Rig) -> None:
        postmaster = int((rig.postgresql.folder / "data" / "postmaster.pid").read_text().split()[0])
        self.postgresql = seconds(postmaster)
        self.redis = seconds(rig.redis.client.info("server")["process_id"])
        [(self.wal, self.commits, self.size)] = rig.sql(USED)

    def since(self, before: "Meter", worker: float | None = None) -> tuple[str, str]:
        """Return what was used for each task, as two cells of the table."""
        ran = "" if worker is None else f", worker {1000 * worker / TASKS:.2f} ms"
        return (
            f"PostgreSQL {1000 * (self.postgresql - before.postgresql) / TASKS:.3f} ms",
            (
                f"Redis {1000 * (self.redis - before.redis) / TASKS:.3f} ms{ran}, "
                f"WAL {(self.wal - before.wal) / TASKS:.0f} B, {(self.commits - before.commits) / TASKS:.2f} commits, "
                f"ledger {(self.size - before.size) / TASKS:+.0f} B"
            ),
        )
