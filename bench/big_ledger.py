"""The ledger's statements beside ten million finished rows and a million that wait."""

import os
from pathlib import Path

from bench.rig import Rig, Table, interleaved, shell

FINISHED, WAITING, CLAIMS = int(os.environ.get("BENCH_FINISHED", "10_000_000")), 1_000_000, 2000
PURGES, PURGED = 5, 1000
PLANS = Path("build/ledger-plans.txt")

ROWS = """INSERT INTO drumline_ledger (id, name, queue, message, created_at, due_at, state, published_at, finished_at,
    max_attempts, priority, run, attempt, retries, generation, parent_id, root_id, error, traceback, history)
SELECT gen_random_uuid(), 'bench.noop', 'default', repeat('x', 400), now() - interval '1 hour',
    now() - interval '1 hour', {state}, now() - n * interval '1 millisecond', {finished}, 3,
    0, 0, 0, 0, 0, '', '', '', '', '[]'
FROM generate_series(1, {count}) n"""

MEASURE = """
import time, uuid
from celery import current_app
from django.utils import timezone
from drumline.ledger.store import store
from drumline.models import DurableTask
from drumline.relay import relay as module
from benchtasks.tasks import noop

def claims():
    with current_app.producer_or_acquire() as producer:
        ids = [noop.apply_async((n,), producer=producer).id for n in range({claims})]
    todo, worker = store(), uuid.uuid4()
    todo.claim(uuid.uuid4(), 0.0, worker, [])
    finished, started = [], time.perf_counter()
    for id_ in ids:
        finished = [todo.claim(uuid.UUID(id_), time.time(), worker, finished)]
    taken = time.perf_counter() - started
    todo.finish(worker, finished)
    DurableTask.objects.filter(id__in=ids).delete()
    return taken / len(ids) * 1000

def rounds():
    relay = module.Relay()
    relay.round()
    started = time.perf_counter()
    for _ in range(50):
        relay.round()
    return (time.perf_counter() - started) / 50 * 1000

def purges():
    started = time.perf_counter()
    for _ in range({purges}):
        assert store().purge(before=timezone.now(), limit={purged}) == {purged}
    return (time.perf_counter() - started) / {purges} * 1000

print({what}())
"""

EXPLAINED = {
    "claim": "UPDATE drumline_ledger SET state = 1 WHERE id = '00000000-0000-0000-0000-000000000000' AND state = 0",
    "due": "SELECT id FROM drumline_ledger WHERE state = 0 AND published_at IS NULL AND due_at <= now() "
    "ORDER BY due_at LIMIT 500 FOR UPDATE SKIP LOCKED",
    "overtaken": "SELECT id FROM drumline_ledger WHERE state = 0 AND queue = 'default' AND priority = 0 "
    "AND published_at < now() - interval '1 day' LIMIT 5000 FOR UPDATE SKIP LOCKED",
    "suspects": "SELECT 1 FROM drumline_ledger WHERE state = 0 AND queue = 'default' "
    "AND published_at < now() - interval '5 s' LIMIT 1",
    "watermark": "SELECT queue, priority, max(published_at) FROM drumline_ledger WHERE state = 1 "
    "AND published_at IS NOT NULL GROUP BY 1, 2",
    "expired": "SELECT id FROM drumline_ledger WHERE state = 0 AND expires_at <= now() LIMIT 1000",
    "purge": "SELECT ctid FROM drumline_ledger WHERE state IN (2, 4) AND finished_at <= now() - interval '1 day' "
    "ORDER BY finished_at LIMIT 1000 FOR UPDATE SKIP LOCKED",
}


def run(rig: Rig, table: Table, runs: int) -> None:
    for name in ("small", "big"):
        rig.sql(f"CREATE DATABASE {name}")
        with rig.application("ledger", name):
            pass
    # One row waits in the small one too, for which the relay asks the broker; and as many are finished as are purged.
    for name, finished, waiting in (("small", runs * PURGES * PURGED, 1), ("big", FINISHED, WAITING)):
        rig.sql(ROWS.format(state=2, finished="now() - n * interval '1 millisecond'", count=finished), name)
        rig.sql(ROWS.format(state=0, finished="NULL", count=waiting), name)
        rig.sql("VACUUM ANALYZE drumline_ledger", name)
    explain(rig)

    def variant(database: str, what: str):
        def figure() -> float:
            with rig.application("ledger", database) as application:
                # The broker holds something of the queue: nothing of the backlog is lost.
                rig.redis.client.lpush("default", "x")
                code = MEASURE.format(what=what, claims=CLAIMS, purges=PURGES, purged=PURGED)
                return float(shell(application, code))

        return figure

    measured = {"claims": "claim and close", "rounds": "a relay's round", "purges": f"purge of {PURGED:,}"}
    for what, title in measured.items():
        got = interleaved(runs, {name: variant(name, what) for name in ("small", "big")})
        table.add(
            f"{title} beside {FINISHED:,} finished, {WAITING:,} waiting",
            "<= 1.2 x a small one",
            f"{got['big'] / got['small']:.2f} x",
            f"{got['big']:.2f} ms; small {got['small']:.2f} ms; plans in {PLANS}",
        )


def explain(rig: Rig) -> None:
    plans = []
    for name, statement in EXPLAINED.items():
        lines = [line for (line,) in rig.sql(f"EXPLAIN (ANALYZE, BUFFERS) {statement}", "big")]
        plans.append("\n".join([f"-- {name}: {statement}", *lines]))
    PLANS.parent.mkdir(exist_ok=True)
    PLANS.write_text("\n\n".join(plans) + "\n")
