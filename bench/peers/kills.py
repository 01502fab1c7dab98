"""The same probe for all: kill -9 of the workers at random moments of work, and what becomes of the tasks.

A task leaves a row when it starts and completes it when it ends. Each time the workers have done something again, they are all
killed at a random moment, with all of their children, and started again. In the end the workers run on, with one more task a
second as a living system has, until every task that was sent before has ended once, or none of them has for five minutes.
"""

import json
import random
import time
from typing import Any

from bench.peers.processes import Peer

KILLS = 25
# Tasks are sent so that as many wait at each kill.
WAITING, AT_ONCE = 1000, 1000
QUIET = 300.0
DONE = "SELECT count(DISTINCT number) FROM bench_run WHERE ended IS NOT NULL AND number < {sent}"
TWICE = (
    "SELECT count(*) FROM (SELECT number FROM bench_run WHERE ended IS NOT NULL GROUP BY number HAVING count(*) > 1) _"
)
# For how long the one that waited longest waited after tasks had run that were sent much later.
OVERTAKEN = """
    WITH done AS (SELECT number, min(ended) AS at FROM bench_run WHERE ended IS NOT NULL GROUP BY number)
    SELECT GREATEST(max(EXTRACT(epoch FROM at - later)), 0)::float FROM (
        SELECT at, min(at) OVER (ORDER BY number ROWS BETWEEN 500 FOLLOWING AND UNBOUNDED FOLLOWING) AS later FROM done
    ) _
"""


class Probe:
    """One peer's workers under kill -9."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.sent = self.done = 0
        self.changed = time.monotonic()

    def run(self) -> None:
        """Kill so many times; the workers then run on."""
        moments = random.Random(20261127)
        self.peer.fresh()
        self._feed()
        self.peer.start()
        for _ in range(KILLS):
            self._works()
            self._feed()
            time.sleep(moments.uniform(0.05, 0.8))
            self.peer.kill()
            self.peer.start()
        self.peer.feed(self.sent)
        self.changed = time.monotonic()

    def _feed(self) -> None:
        while self.sent - self._done() < WAITING + AT_ONCE:
            self.peer.feed(self.sent, AT_ONCE)
            self.sent += AT_ONCE

    def _works(self) -> None:
        """Wait until a task has run; send another one for each few seconds without, as Taskiq looks back only then."""
        before, begun = self.peer.count(), time.monotonic()
        sent = 0
        while self.peer.count() == before:
            if (silent := time.monotonic() - begun) > QUIET:
                raise TimeoutError(f"{self.peer.key}: does nothing after a kill\n{self.peer.logs()}")
            if silent > 5 * (sent + 1):
                sent += 1
                self.peer.feed(self.sent, 1)
                self.sent += 1
            time.sleep(0.01)

    def _done(self) -> int:
        return self.peer.sql(DONE.format(sent=self.sent))[0][0]

    def over(self) -> bool:
        """Look whether every task has ended, or none has for long; stop the workers then."""
        if (done := self._done()) != self.done:
            self.done, self.changed = done, time.monotonic()
        over = done == self.sent or time.monotonic() - self.changed > QUIET
        if over:
            self.peer.stop()
        return over

    def outcome(self) -> dict[str, Any]:
        return {
            "sent": self.sent,
            "lost": self.sent - self.done,
            "twice": self.peer.sql(TWICE)[0][0],
            "recovered": self.peer.sql(OVERTAKEN)[0][0],
        }


def probe(peers: list[Peer]) -> dict[str, dict[str, Any]]:
    """Kill the workers of one peer after the other; while one is killed, those before it wait for what they take back."""
    outcomes, running = {}, []
    for peer in peers:
        print(f"{KILLS} x kill -9: {peer.about['name']}", flush=True)
        running.append(Probe(peer))
        try:
            running[-1].run()
        except (RuntimeError, TimeoutError) as error:
            print(f"{error}\nIts workers are killed no more.", flush=True)
        running = [each for each in running if not _ended(each, outcomes)]
    while running:
        time.sleep(1)
        running = [each for each in running if not _ended(each, outcomes)]
    return outcomes


def _ended(each: Probe, outcomes: dict[str, dict[str, Any]]) -> bool:
    if not each.over():
        return False
    outcomes[each.peer.key] = each.outcome()
    print(f"{each.peer.about['name']}: {json.dumps(outcomes[each.peer.key])}", flush=True)
    return True
