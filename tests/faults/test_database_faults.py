"""A database that is restarted, and one that is gone: no task is lost, and every connection is made anew."""

import time

from tests.faults.rig import System
from tests.support.waiting import during, wait_until


def restarted(system: System, away: float) -> tuple[dict[str, int], str]:
    """Restart PostgreSQL as its service does, then kill it and leave it away, both under load."""
    for name in ("one", "two"):
        system.worker(name, concurrency=2)
    system.web()
    with system.visitors("faults.effect_in_spite", 0.02) as visitors:
        wait_until(lambda: system.effects() > 50, "the site is in use")
        # First connections are closed cleanly and everything is written, and then nothing is.
        stopped = stop(system, "fast")
        system.cluster.start()
        system.sql(stopped)
        before = system.effects()
        wait_until(lambda: system.effects() > before + 50, "work goes on after the restart", seconds=60)
        through = [system.send("faults.effect_across", away + 5) for _ in range(2)]
        runs = f"SELECT count(*) FROM run WHERE task_id IN ('{through[0]}', '{through[1]}')"
        wait_until(lambda: system.value(runs) == 2, "two run that will last longer than the outage")
        stopped = stop(system, "immediate")
        during(away)
        system.cluster.start()
        system.sql(stopped)
        before = system.effects()
        wait_until(lambda: system.effects() > before + 50, "work goes on after the outage", seconds=60)
    drained = system.drained(seconds=200, quiet=60)
    system.closed()
    came = system.outcome() | {
        "dead": system.states().get("dead", 0) if system.mode == "drumline" else 0,
        "through": system.value(runs),
    }
    system.send_many("faults.effect", count=40)
    system.drained(seconds=60, quiet=15)
    came["broken"] = system.lost() - came["lost"]
    return came, (
        f"{came['lost']} of {came['sent']} lost, {came['dead']} dead letters, {came['overlaps']} at the same time, "
        f"{came['reruns']} started again; the 2 that ran on without it started {came['through']} x; drained after "
        f"{drained:.0f} s; then {came['broken']} of 40 failed; "
        f"{visitors.refused()} requests failed of {visitors.answered() + visitors.refused()}"
    )


def stop(system: System, how: str) -> str:
    """Stop PostgreSQL and return the statement that remembers when."""
    system.cluster._run("pg_ctl", "stop", "--wait", f"--mode={how}")
    return f"INSERT INTO outage VALUES (to_timestamp({time.time()}))"


def test_no_task_is_lost_when_postgresql_is_restarted_and_when_it_is_gone(system, fault_row, full):
    away = 60 if full else 10
    fault_row.says(
        f"PostgreSQL restarted under load, then killed and gone for {away} s",
        "0 lost, none at the same time, the workers recover by themselves, no connection is left broken",
    )

    def stock() -> str:
        with system("stock") as harmed:
            return restarted(harmed, away)[1]

    fault_row.stock(stock)
    with system("drumline") as harmed:
        workers = harmed.workers
        came, words = restarted(harmed, away)
        fault_row.got(words)
        assert (came["lost"], came["overlaps"], came["dead"], came["broken"]) == (0, 0, 0, 0), harmed.logs()
        assert came["through"] == 2
        assert all(worker.alive() for worker in workers.values())
