"""Brokers that die, forget, freeze, fill up and stop: what was asked for is in the ledger, and gets done."""

import contextlib
import os
import shutil
import signal

import pytest

from tests.faults.rig import System
from tests.support.waiting import during, wait_until

# A request may wait for the broker once in a while, never for as long as the broker is away.
REQUEST_SECONDS = 2.0


def told(came: dict[str, int]) -> str:
    return "{lost} of {sent} lost, {overlaps} at the same time, {reruns} started again".format(**came)


def emptied(system: System, queued: int) -> dict[str, int]:
    """Let four tasks run and many wait, and have Redis come back with nothing."""
    for name in ("one", "two"):
        system.worker(name, concurrency=2)
    system.send_many("faults.effect", 8, count=4)
    wait_until(lambda: system.value("SELECT count(*) FROM run") == 4, "four tasks run")
    system.send_many("faults.effect", count=queued)
    system.broker.kill()
    for path in system.broker.folder.iterdir():
        shutil.rmtree(path)
    system.broker.start()
    system.drained(seconds=300, quiet=60)
    system.closed()
    return system.outcome()


def test_nothing_is_lost_when_redis_dies_and_comes_back_empty(system, fault_row, full):
    queued = 5_000 if full else 500
    fault_row.says(
        f"Redis killed with {queued} tasks queued and 4 running, and back with nothing", "0 lost, drains by itself"
    )

    def stock() -> str:
        with system("stock") as harmed:
            return told(emptied(harmed, queued))

    fault_row.stock(stock)
    with system("drumline") as harmed:
        came = emptied(harmed, queued)
        fault_row.got(told(came))
        assert (came["sent"], came["lost"], came["overlaps"]) == (queued + 4, 0, 0), harmed.logs()


def away(system: System, fault: str, seconds: float) -> tuple[dict[str, int], str]:
    """Keep the site in use while the broker is stopped or frozen."""
    for name in ("one", "two"):
        system.worker(name)
    system.web()
    with system.visitors("faults.effect") as visitors:
        wait_until(lambda: system.effects() > 20, "the site is in use")
        if fault == "stopped":
            system.broker.kill()
            during(seconds)
            system.broker.start()
        else:
            # All of its processes: RabbitMQ's server is the child of a script.
            os.killpg(system.broker.process.pid, signal.SIGSTOP)
            during(seconds)
            os.killpg(system.broker.process.pid, signal.SIGCONT)
        during(5)
    drained = system.drained(seconds=300, quiet=60)
    system.closed()
    came = system.outcome() | {"refused": visitors.refused(), "p99": visitors.percentile(0.99)}
    return came, (
        f"{told(came)}; {visitors.answered()} requests answered, {visitors.refused()} not; "
        f"p99 {came['p99'] * 1000:.0f} ms, longest {visitors.percentile(1):.1f} s; drained after {drained:.0f} s"
    )


@pytest.mark.parametrize("fault", ["stopped", "frozen"])
def test_the_site_goes_on_and_nothing_is_lost_while_redis_is_away(system, fault_row, full, fault, request):
    if fault == "stopped":
        request.getfixturevalue("only_full")
    seconds = 60 if full else 8
    fault_row.says(
        f"Redis {fault} for {seconds} s while the site keeps sending",
        f"0 lost, each request answered, p99 under {REQUEST_SECONDS:g} s, drains by itself",
    )

    def stock() -> str:
        with system("stock") as harmed:
            return away(harmed, fault, seconds)[1]

    fault_row.stock(stock)
    with system("drumline") as harmed:
        came, words = away(harmed, fault, seconds)
        fault_row.got(words)
        assert (came["lost"], came["overlaps"], came["refused"]) == (0, 0, 0), harmed.logs()
        assert came["p99"] < REQUEST_SECONDS


@pytest.mark.usefixtures("only_full")
def test_the_site_goes_on_and_nothing_is_lost_while_rabbitmq_is_frozen(system, fault_row):
    fault_row.says("RabbitMQ frozen for 30 s while the site keeps sending", "0 lost, each request answered")

    def stock() -> str:
        with system("stock", rabbitmq=True) as harmed:
            return away(harmed, "frozen", 30)[1]

    fault_row.stock(stock)
    with system("drumline", rabbitmq=True) as harmed:
        came, words = away(harmed, "frozen", 30)
        fault_row.got(words)
        assert (came["lost"], came["overlaps"], came["refused"]) == (0, 0, 0), harmed.logs()
        assert came["p99"] < REQUEST_SECONDS


def filled(system: System) -> tuple[dict[str, int], str]:
    """Let Redis run out of memory under load, and give it more."""
    system.worker("one")
    system.web()
    redis = system.broker.client
    with system.visitors("faults.effect") as visitors:
        wait_until(lambda: system.effects() > 20, "the site is in use")
        redis.config_set("maxmemory", 1)
        during(8)
        alarmed = system.mode == "drumline" and system.application.manage(
            "ledger", "status", "--max-lag", "5", check=False
        )
        answered, refused = visitors.answered(), visitors.refused()
        redis.config_set("maxmemory", 0)
        during(2)
    if not system.workers["one"].alive():
        system.worker("one")
    system.drained(seconds=120, quiet=60)
    system.closed()
    came = system.outcome() | {"refused": refused, "alarmed": bool(alarmed and alarmed.returncode)}
    alarm = f"; `ledger status --max-lag 5`: {'alarm' if came['alarmed'] else 'no alarm'}" if alarmed else ""
    return came, f"{told(came)}; {answered} requests answered, {refused} not{alarm}"


@pytest.mark.usefixtures("only_full")
def test_tasks_are_taken_while_redis_is_out_of_memory(system, fault_row):
    fault_row.says("Redis at its maxmemory while the site keeps sending", "each request answered, 0 lost, an alarm")

    def stock() -> str:
        with system("stock") as harmed:
            return filled(harmed)[1]

    fault_row.stock(stock)
    with system("drumline") as harmed:
        came, words = filled(harmed)
        fault_row.got(words)
        assert (came["lost"], came["overlaps"], came["refused"]) == (0, 0, 0), harmed.logs()
        assert came["alarmed"]


def restarted(system: System, times: int) -> dict[str, int]:
    """kill -9 of RabbitMQ and a new start, under load."""
    for name in ("one", "two"):
        system.worker(name)
    system.web()
    system.send_many("faults.effect", 0.02, count=300)
    with system.visitors("faults.effect"):
        wait_until(lambda: system.effects() > 20, "the workers work", seconds=60)
        for _ in range(times):
            system.broker.kill()
            during(3)
            system.broker.start()
            before = system.effects()
            with contextlib.suppress(AssertionError):
                wait_until(lambda before=before: system.effects() > before + 20, "work goes on", seconds=60)
    system.drained(seconds=200, quiet=60)
    system.closed()
    return system.outcome()


def test_nothing_is_lost_when_rabbitmq_stops_and_starts_under_load(system, fault_row, full):
    times = 4 if full else 1
    fault_row.says(f"RabbitMQ (quorum queues) killed and started {times} x under load", "0 lost")

    def stock() -> str:
        with system("stock", rabbitmq=True, pause=0.2) as harmed:
            return told(restarted(harmed, times))

    fault_row.stock(stock)
    with system("drumline", rabbitmq=True, pause=0.2) as harmed:
        came = restarted(harmed, times)
        fault_row.got(told(came))
        assert (came["lost"], came["overlaps"]) == (0, 0), harmed.logs()
        # RabbitMQ 4.3 refuses what is neither durable nor exclusive, and an exclusive queue to a worker's next life.
        harmed.kill("one")
        harmed.worker("one")
        queues = harmed.broker.queues()
        assert any(queue["name"].startswith("one@") for queue in queues), queues
        assert [queue for queue in queues if not queue["durable"] or queue["exclusive"]] == []
