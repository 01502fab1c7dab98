"""Drumline beside other task queues, each with its own safe settings, on the same PostgreSQL and Redis.

Two tasks at a time. Every peer runs the same bodies (project/work.py) through an adapter (project/adapters/). The rounds are
interleaved and the medians count. Then the same probe kills each peer's workers (kills.py).
"""

import json
import os
import statistics
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from bench.peers.kills import KILLS, probe
from bench.peers.processes import Peer, available
from bench.peers.rounds import measure
from bench.peers.table import render
from bench.rig import Rig, Table, revision

GOAL = 2
# Those that take nothing back are given up after five minutes: first, so that these pass while others are killed.
SLOWEST_FIRST = ("huey", "django_tasks_db", "rq", "dramatiq", "celery", "celery_tuned", "taskiq")


def run(rig: Rig, table: Table, runs: int) -> None:
    with ExitStack() as ends:
        peers = {key: ends.enter_context(Peer(rig, key)) for key in available()}
        _run(peers, table, runs, on(rig, peers["drumline"]))


def on(rig: Rig, peer: Peer) -> str:
    """Say what it is measured on."""
    postgresql = rig.sql("SHOW server_version")[0][0].split()[0]
    redis = rig.redis.client.info("server")["redis_version"]
    python, django = peer.about["python"], peer.about["django"]
    return (
        f"{datetime.now(UTC).date()}, {revision()}, {os.cpu_count()} cores, Python {python}, Django {django}, "
        f"PostgreSQL {postgresql} that waits for the disk, Redis {redis} that writes to it each second"
    )


def _run(peers: dict[str, Peer], table: Table, runs: int, machine: str) -> None:
    abouts = {key: peer.about for key, peer in peers.items()}
    rounds: dict[str, list[dict[str, float]]] = {key: [] for key in peers}
    for _ in range(runs):
        for key, peer in peers.items():
            try:
                rounds[key].append(measure(peer))
            except (RuntimeError, TimeoutError) as error:
                print(f"{error}\nThis round is left out.", flush=True)
            else:
                print(f"{abouts[key]['name']}: {json.dumps(rounds[key][-1])}", flush=True)
    medians = {key: median(got) for key, got in rounds.items() if got}
    in_order = [key for key in SLOWEST_FIRST if key in peers] + [key for key in peers if key not in SLOWEST_FIRST]
    outcomes = probe([peers[key] for key in in_order])
    for key, got in medians.items():
        in_a_database = key != "drumline" and abouts[key]["keeps"] == "PostgreSQL"
        for body in ("noop", "row"):
            table.add(
                f"{body}, {abouts[key]['name']}: {got[body]:.0f}/s",
                f">= {GOAL} x by Drumline" if in_a_database else "",
                f"{medians['drumline'][body] / got[body]:.2f} x",
                f"{KILLS} x kill -9: {json.dumps(outcomes[key])}",
            )
    Path("build").mkdir(exist_ok=True)
    how = f"`make bench ONLY=peers`: medians of {runs} round{'s' * (runs > 1)}, interleaved; {machine}."
    Path("build/peers.md").write_text(f"{how}\n\n{render(abouts, medians, outcomes)}\n")
    everything = {"peers": abouts, "rounds": rounds, "outcomes": outcomes}
    Path("build/peers.json").write_text(json.dumps(everything, indent=2) + "\n")
    print(Path("build/peers.md").read_text())


def median(rounds: list[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}
