"""Rates, latencies and memory of a peer."""

import math
import time
from collections.abc import Callable

from bench.peers.processes import Peer

# How many are sent one by one, and at once; how many of them make a rate after the first, within how many seconds.
ONE, MANY, WARM_UP, WINDOW = 300, 10_000, 300, 4.0
ROWS = 5000
FLOOD, HEARD = 3000, 40


def measure(peer: Peer) -> dict[str, float]:
    """Return one round's figures."""
    peer.fresh()
    sent = peer.drive("send", "noop", "default", ONE, MANY)
    peer.start()
    noop = rate(peer, ONE + MANY)
    memory = peer.memory()
    peer.fresh()
    peer.drive("send", "row", "default", 10, ROWS)
    peer.start()
    row = rate(peer, ROWS)
    peer.fresh()
    peer.start()
    idle = peer.drive("hear", "default", HEARD)["milliseconds"]
    peer.fresh()
    peer.drive("send", "sleep", "low", 1, FLOOD)
    peer.start("low", 1)
    peer.start("high", 1)
    urgent = peer.drive("hear", "high", HEARD)["milliseconds"]
    if peer.count() >= FLOOD:
        raise RuntimeError(f"{peer.key}: `low` was empty before the urgent tasks had run")
    peer.stop()
    return {
        "noop": noop,
        "row": row,
        "one": sent["one"],
        "many": sent["many"],
        "idle50": percentile(idle, 0.5),
        "idle99": percentile(idle, 0.99),
        "urgent50": percentile(urgent, 0.5),
        "urgent99": percentile(urgent, 0.99),
        "memory": memory,
    }


def rate(peer: Peer, sent: int) -> float:
    """Return the tasks a second, from the first few hundred on until the window or nearly all tasks are over."""
    wait(peer, lambda: peer.count() >= WARM_UP, 60)
    first, started = peer.count(), time.perf_counter()
    wait(peer, lambda: peer.count() >= 0.95 * sent or time.perf_counter() - started > WINDOW, 60)
    return (peer.count() - first) / (time.perf_counter() - started)


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[math.ceil(share * len(values)) - 1]


def wait(peer: Peer, condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{peer.key}: {peer.count()} tasks have run after {seconds} s\n{peer.logs()}")
        time.sleep(0.002)
