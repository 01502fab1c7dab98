"""A host that ends from one moment to the next, and boots: every task it had is done, by itself."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.support.on_host import last_line, testhost

if TYPE_CHECKING:
    from testinfra.host import Host

TASKS = 30
BUSY_SECONDS = 1
DONE_SECONDS = 120

SEND = f"""
from drumline.tasks import ping
queues = ["high", "low"] * ({TASKS} // 2)
print(*[ping.apply_async(args=[{BUSY_SECONDS}], queue=queue).id for queue in queues])
"""
STATES = """
import sys
from drumline.models import DurableTask
rows = DurableTask.objects.filter(id__in=sys.stdin.read().split())
print(*sorted(row.get_state_display() for row in rows.only("state")))
"""


def test_a_host_that_ends_at_once_and_boots_loses_no_task(host: Host) -> None:
    name = str(host.backend.host.name)
    told = testhost("list", name)
    if not told:
        pytest.skip(f"{name} is not a test host of this machine: it cannot be ended.")
    identities = last_line(host, SEND)
    assert "Running" in last_line(host, STATES, identities)

    assert testhost("crash", name)
    up = testhost("up", name, f"--debian={told[0]['debian']}")

    assert up, f"{name} did not boot again"
    assert up["failed_units"] == []
    states, started = "", time.monotonic()
    while states.split() != ["Finished"] * TASKS:
        assert time.monotonic() - started < DONE_SECONDS, f"of {TASKS} tasks: {states}"
        states = last_line(host, STATES, identities)
