"""A host that ends from one moment to the next, and boots: every task it had is done, by itself."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.on_host import last_line

if TYPE_CHECKING:
    from testinfra.host import Host

TESTHOST = Path(__file__).resolve().parents[1] / "images" / "testhost.py"
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


def tool(*arguments: str) -> Any:
    result = subprocess.run(
        [sys.executable, str(TESTHOST), *arguments, "--json"], check=False, capture_output=True, text=True
    )
    return json.loads(result.stdout) if result.returncode == 0 else None


def test_a_host_that_ends_at_once_and_boots_loses_no_task(host: Host) -> None:
    name = str(host.backend.host.name)
    told = tool("list", name)
    if not told:
        pytest.skip(f"{name} is not a test host of this machine: it cannot be ended.")
    identities = last_line(host, SEND)
    assert "Running" in last_line(host, STATES, identities)

    assert tool("crash", name)
    up = tool("up", name, f"--debian={told[0]['debian']}")

    assert up, f"{name} did not boot again"
    assert up["failed_units"] == []
    states, started = "", time.monotonic()
    while states.split() != ["Finished"] * TASKS:
        assert time.monotonic() - started < DONE_SECONDS, f"of {TASKS} tasks: {states}"
        states = last_line(host, STATES, identities)
