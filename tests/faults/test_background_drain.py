"""A deploy does not wait for a long task: its worker finishes it on the old release, and a stand-in consumes meanwhile.

pytest tests/faults/test_background_drain.py --hosts=ssh://drumline-local --ssh-config=build/ssh/config --sudo
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.support.on_host import inventory_of, last_line, properties, run_site
from tests.support.paths import ANSIBLE
from tests.support.rendering import load
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    import pytest
    from testinfra.host import Host

BUSY_SECONDS = 20
BACK_SECONDS = 120
INSTANCES = ["drumline-worker@low-1.service", "drumline-worker@low-2.service"]
STAND_IN = "drumline-worker@low-0.service"

SEND = """
from drumline.tasks import ping
print(*[ping.apply_async(args=[{seconds}], queue="low").id for _ in range({count})])
"""
LOOK = """
import json, sys
from drumline.models import DurableTask
found = DurableTask.objects.filter(id__in=sys.stdin.read().split())
print(json.dumps([DurableTask.State(state).name for state in found.values_list("state", flat=True)]))
"""


def states(host: Host) -> dict[str, str]:
    return {name: unit["ActiveState"] for name, unit in properties(host, [*INSTANCES, STAND_IN], "ActiveState").items()}


def tasks(host: Host, identities: str) -> set[str]:
    return set(json.loads(last_line(host, LOOK, identities)))


def test_a_deploy_leaves_a_worker_to_its_long_task_and_a_stand_in_consumes_until_it_is_back(
    host: Host, request: pytest.FixtureRequest
) -> None:
    queues = load(ANSIBLE / "group_vars/all/processes.yml")["app_queues"]
    queues["low"]["memory_mb"] -= 1
    changed = json.dumps({"app_queues": queues, "app_drain_patience": 3})
    mains = {name: unit["MainPID"] for name, unit in properties(host, INSTANCES, "MainPID").items()}
    long = last_line(host, SEND.format(seconds=BUSY_SECONDS, count=len(INSTANCES)))
    wait_until(lambda: tasks(host, long) == {"RUNNING"}, "the long tasks run", seconds=60)

    # The tasks take as long as the deploy does, however slow the host is.
    children = host.check_output(f"pgrep --parent {','.join(mains.values())}").split()
    host.check_output(f"kill -STOP {' '.join(children)}")

    deployed = run_site(inventory_of(request.config), "--tags=app_services", f"--extra-vars={changed}")

    assert deployed.returncode == 0, deployed.stdout[-4000:]
    assert states(host) == {**dict.fromkeys(INSTANCES, "deactivating"), STAND_IN: "active"}
    assert "still runs tasks on the release before" in deployed.stdout

    short = last_line(host, SEND.format(seconds=0, count=1))
    wait_until(lambda: tasks(host, short) == {"FINISHED"}, "the stand-in ran a task", seconds=30)
    assert tasks(host, long) == {"RUNNING"}

    host.check_output(f"kill -CONT {' '.join(children)}")
    wait_until(
        lambda: states(host) == {**dict.fromkeys(INSTANCES, "active"), STAND_IN: "inactive"},
        "the instances are back and the stand-in is gone",
        seconds=BACK_SECONDS,
    )
    after = {name: unit["MainPID"] for name, unit in properties(host, INSTANCES, "MainPID").items()}
    assert not set(after.values()) & set(mains.values())
    assert tasks(host, long) == {"FINISHED"}

    restored = run_site(inventory_of(request.config), "--tags=app_services")
    assert restored.returncode == 0, restored.stdout[-4000:]
