"""Whether the relay's purge keeps up with what ends, and whether the ledger then stays as large as what is kept."""

import os
import time
from typing import NamedTuple

from bench.rig import Rig, Table, worker
from tests.support.paths import BIN

RATE, MINUTES, KEPT = 500, int(os.environ.get("BENCH_MINUTES", "60")), 120
# From here on as many rows are purged as end.
LEVEL = KEPT + 60

SEND = """
import time
from drumline import send_many
from benchtasks.tasks import noop

began = time.monotonic()
for second in range({seconds}):
    time.sleep(max(0.0, began + second - time.monotonic()))
    send_many(noop, ((number,) for number in range({rate})))
"""
LOOK = """SELECT pg_relation_size('drumline_ledger'), pg_indexes_size('drumline_ledger'), n_dead_tup, autovacuum_count,
    (SELECT count(*) FROM drumline_ledger WHERE state = 0),
    (SELECT coalesce(extract(epoch FROM now() - min(finished_at)), 0)::float FROM drumline_ledger)
    FROM pg_stat_user_tables WHERE relname = 'drumline_ledger'"""


class Look(NamedTuple):
    """The ledger at one moment: bytes, rows, and seconds since the oldest row that is kept ended."""

    table: int
    indexes: int
    dead: int
    vacuums: int
    waiting: int
    oldest: float

    def told(self) -> str:
        return (
            f"{self.table / 1e6:.0f} MB and {self.indexes / 1e6:.0f} MB of indexes, {self.dead:,} dead rows, "
            f"{self.waiting:,} wait, oldest {self.oldest:.0f} s"
        )


def run(rig: Rig, table: Table, _runs: int) -> None:
    with rig.application("ledger") as application:
        application.env["BENCH_KEPT"] = str(KEPT)
        # What says that the relay has started is in its log.
        application.env["LOG_LEVEL"] = "INFO"
        application.relay()
        application.env["LOG_LEVEL"] = "WARNING"
        worker(application, "default", concurrency=2)
        code = SEND.format(seconds=60 * MINUTES, rate=RATE)
        sender = application.start(str(BIN / "python"), "manage.py", "shell", "--no-imports", "--command", code)
        time.sleep(LEVEL)
        looks = [look(rig)]
        while sender.alive():
            time.sleep(min(60, 6 * MINUTES))
            looks.append(look(rig))
    largest, oldest = max(each.table + each.indexes for each in looks), max(each.oldest for each in looks)
    first, last = looks[0], looks[-1]
    table.add(
        f"purge, {RATE} tasks a second for {MINUTES} min",
        f"oldest <= {KEPT} s kept + 60",
        f"{oldest:.0f} s",
        f"at the end {last.told()}; autovacuum {last.vacuums} times",
    )
    table.add(
        "", "<= 1.2 x as large as when full", f"{largest / (first.table + first.indexes):.2f} x", f"then {first.told()}"
    )


def look(rig: Rig) -> Look:
    return Look(*rig.sql(LOOK)[0])
