"""Workers that die, freeze and are stopped: no task is lost, none runs twice at the same time."""

import random
import signal
import time

import pytest

from tests.faults.rig import System
from tests.support.waiting import wait_until

# Seconds within which a dead worker's task runs elsewhere: the lease of 15 s, and what it takes to notice.
ELSEWHERE = 30


def killed_at_random(system: System, *, tasks: int, kills: int, seed: int = 20261123) -> dict[str, int]:
    """kill -9 of a worker's main process at random moments, restarted at once."""
    moments = random.Random(seed)
    names = ["one", "two"]
    for name in names:
        system.worker(name, ready=False)
    system.send_many("faults.effect", count=tasks)
    wait_until(system.effects, "the first tasks are done", seconds=90)
    for number in range(kills):
        name = names[number % 2]
        system.workers[name].wait_for(" ready.", seconds=90)
        time.sleep(moments.uniform(0.1, 1.5))
        system.kill(name)
        system.worker(name, ready=False)
    system.drained(seconds=1200)
    system.closed()
    return system.outcome() | {"left": system.lost()}


def test_no_task_is_lost_doubled_or_stuck_when_workers_are_killed_at_random(system, fault_row, full):
    tasks, kills = (40_000, 25) if full else (2_500, 5)
    fault_row.says(
        f"{tasks} tasks on Redis, {kills} x kill -9 of a worker's main process at random moments",
        "0 lost, no task twice at the same time, each effect once",
    )

    def told(came: dict[str, int]) -> str:
        return "{lost} lost, {overlaps} at the same time, {reruns} started again".format(**came)

    def stock() -> str:
        with system("stock") as harmed:
            return told(killed_at_random(harmed, tasks=tasks, kills=kills))

    fault_row.stock(stock)
    with system("drumline") as harmed:
        came = killed_at_random(harmed, tasks=tasks, kills=kills)
        fault_row.got(told(came))
        assert (came["sent"], came["lost"], came["overlaps"]) == (tasks, 0, 0), harmed.logs()
        assert harmed.states() == {"finished": tasks}


def frozen_and_killed(system: System) -> float | None:
    """Publish to a worker that is stopped, and kill it; return the seconds until another has run the task."""
    worker = system.worker("one")
    system.web()
    system.application.post("/faults/send", {"task": "faults.effect"})
    wait_until(system.effects, "the worker works")

    def waits() -> bool:
        return bool(system.broker.client.info("clients")["blocked_clients"])

    # It waits in Redis for the next message, a second at a time. Redis hands that over to who never reads it.
    while True:
        wait_until(waits, "the worker waits for a message")
        worker.popen.send_signal(signal.SIGSTOP)
        if waits():
            break
        worker.popen.send_signal(signal.SIGCONT)
    system.application.post("/faults/send", {"task": "faults.effect"})
    system.kill("one")
    killed = time.monotonic()
    system.worker("two")
    system.drained(seconds=90, quiet=45)
    return None if system.lost() else time.monotonic() - killed


def test_a_task_that_was_published_to_a_frozen_worker_runs_when_that_is_killed(system, fault_row):
    fault_row.says("SIGSTOP of a worker, publish, SIGKILL", f"the task runs within {ELSEWHERE} s")

    def stock() -> str:
        with system("stock") as harmed:
            seconds = frozen_and_killed(harmed)
            return "lost" if seconds is None else f"ran after {seconds:.1f} s"

    fault_row.stock(stock)
    with system("drumline") as harmed:
        seconds = frozen_and_killed(harmed)
        fault_row.got("lost" if seconds is None else f"ran after {seconds:.1f} s")
        assert seconds is not None, harmed.logs()
        assert seconds < ELSEWHERE
        harmed.closed()


def killed_beside_a_long_one(system: System, long: float) -> tuple[float | None, dict[str, int]]:
    """Let each of two workers run one task, kill one, and let the other's outlive every visibility timeout."""
    for name in ("one", "two"):
        system.worker(name)
    ids = [system.send("faults.effect", long) for _ in range(2)]
    wait_until(lambda: system.value("SELECT count(*) FROM run") == 2, "both run")
    victim = system.value(f"SELECT task_id FROM run WHERE parent = {system.workers['one'].popen.pid}")
    system.kill("one")
    killed = time.monotonic()
    system.worker("three")

    def again() -> bool:
        return system.value(f"SELECT count(*) FROM run WHERE task_id = '{victim}'") > 1

    try:
        wait_until(again, "the killed worker's task runs elsewhere", seconds=long)
        seconds = time.monotonic() - killed
    except AssertionError:
        seconds = None
    system.drained(seconds=long * 3, quiet=long + 60)
    system.closed()
    living = next(task for task in ids if task != victim)
    return seconds, system.outcome() | {
        "starts": system.value(f"SELECT count(*) FROM run WHERE task_id = '{living}'"),
    }


@pytest.mark.usefixtures("only_full")
def test_a_killed_workers_task_runs_elsewhere_and_a_living_workers_long_task_is_left_alone(system, fault_row):
    # Stock Celery shows in a minute what it does; it starts the task again at every timeout.
    visibility, long, long_for_stock = 8, 600, 60
    fault_row.says(
        f"kill -9 of one of two workers in a task of {long} s (stock: {long_for_stock} s), with a visibility timeout "
        f"of {visibility} s",
        f"that task runs elsewhere within {ELSEWHERE} s, the living worker's is never started again",
    )

    def told(seconds: float | None, came: dict[str, int]) -> str:
        elsewhere = "never ran elsewhere" if seconds is None else f"ran elsewhere after {seconds:.1f} s"
        return f"{elsewhere}, the long one started {came['starts']} x, {came['overlaps']} pairs of runs at once"

    def stock() -> str:
        with system("stock", visibility=visibility) as harmed:
            return told(*killed_beside_a_long_one(harmed, long_for_stock))

    fault_row.stock(stock)
    with system("drumline", visibility=visibility) as harmed:
        seconds, came = killed_beside_a_long_one(harmed, long)
        fault_row.got(told(seconds, came))
        assert seconds is not None, harmed.logs()
        assert seconds < ELSEWHERE
        assert (came["lost"], came["overlaps"], came["starts"]) == (0, 0, 1)


STEPS = {
    "TERM": [signal.SIGTERM],
    "QUIT": [signal.SIGTERM, signal.SIGQUIT],
    "KILL": [signal.SIGTERM, signal.SIGKILL],
}


def stopped_in_steps(system: System) -> dict[str, float]:
    """Stop a worker three times while a task runs and another waits; return the seconds that each last step took."""
    took = {}
    for name, steps in STEPS.items():
        worker = system.worker("one")
        system.drained(seconds=120, quiet=60)
        begun = system.value("SELECT count(*) FROM run")
        # A drain waits for what runs; the other two must not.
        system.send("faults.effect", 3 if name == "TERM" else 15)
        system.send("faults.effect")
        wait_until(lambda begun=begun: system.value("SELECT count(*) FROM run") > begun, "it runs")
        # Celery ends no child whose task it believes unbegun: half a second more, with or without the ledger.
        wait_until(lambda: system.works("one"), "the main process knows that it runs")
        for step in steps:
            if step != signal.SIGTERM:
                worker.wait_for("Warm shutdown")
            sent = time.monotonic()
            worker.popen.send_signal(step)
        worker.popen.wait(timeout=30)
        took[name] = time.monotonic() - sent
        # What did not end by itself was put back, and runs no more.
        system.sql(f"INSERT INTO killed VALUES ({worker.popen.pid}, clock_timestamp())")
    system.worker("one")
    system.drained(seconds=120, quiet=60)
    system.closed()
    return took


@pytest.mark.usefixtures("only_full")
def test_a_worker_that_is_stopped_finishes_or_puts_back_what_it_runs(system, fault_row):
    fault_row.says(
        "a worker stopped while it works: TERM, then QUIT, then KILL",
        "TERM finishes what runs, QUIT puts it back in under 2 s, nothing is lost after KILL",
    )

    def told(took: dict[str, float], came: dict[str, int]) -> str:
        return (
            f"TERM after {took['TERM']:.1f} s, QUIT after {took['QUIT']:.1f} s, {came['lost']} lost, "
            f"{came['overlaps']} at the same time, {came['reruns']} started again"
        )

    def stock() -> str:
        with system("stock") as harmed:
            return told(stopped_in_steps(harmed), harmed.outcome())

    fault_row.stock(stock)
    with system("drumline") as harmed:
        took, came = stopped_in_steps(harmed), harmed.outcome()
        fault_row.got(told(took, came))
        assert (came["lost"], came["overlaps"]) == (0, 0), harmed.logs()
        assert took["QUIT"] < 2
        # The tasks of QUIT and KILL, and none of TERM.
        assert came["reruns"] == 2
