"""Hosts that boot again, after a power failure or by reboot.yml: every task they had is done, by itself."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.on_host import inventory_of, last_line, run_site, testhost
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator

    from testinfra.host import Host

TASKS = 30
BUSY_SECONDS = 1
DONE_SECONDS = 120

SEND = f"""
from drumline.tasks import ping
queues = ["high", "low"] * ({TASKS} // 2)
print(*[ping.apply_async(args=[{BUSY_SECONDS}], queue=queue).id for queue in queues])
"""
ROWS = """
import json, sys
from drumline.models import DurableTask
rows = DurableTask.objects.filter(id__in=sys.stdin.read().split())
print(json.dumps([[row.get_state_display(), row.attempt] for row in rows]))
"""
PROCESSES = """systemctl list-units --plain --no-legend --state=active 'drumline-web@*.service' 'drumline-worker@*' \
    drumline-beat.service drumline-relay.service drumline-supervisor.service | cut -d' ' -f1 | sort"""


class Tasks:
    """Tasks that were sent to the host."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.identities = last_line(host, SEND)

    def states(self) -> Counter[str]:
        return Counter(state for state, _ in self.rows())

    def rows(self) -> list[tuple[str, int]]:
        """State and attempts of each."""
        rows: list[tuple[str, int]] = json.loads(last_line(self.host, ROWS, self.identities))
        return rows

    def wait(self) -> None:
        """Return when all have finished."""
        everything = Counter({"Finished": TASKS})
        wait_until(lambda: self.states() == everything, lambda: f"{everything}: {self.states()}", seconds=DONE_SECONDS)


@pytest.fixture
def told(host: Host) -> dict[str, Any]:
    """What the test host tool knows of the host."""
    name = str(host.backend.host.name)
    found = testhost("list", name)
    if not found:
        pytest.skip(f"{name} is not a test host of this machine: nobody would boot it again.")
    return dict(found[0])


@pytest.fixture
def play(request: pytest.FixtureRequest, told: dict[str, Any]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a playbook over the host, which comes back whenever it is shut down."""

    def run(playbook: str, *options: str) -> subprocess.CompletedProcess[str]:
        with boots_again(told):
            return run_site(inventory_of(request.config), *options, playbook=playbook)

    return run


@contextlib.contextmanager
def boots_again(told: dict[str, Any]) -> Iterator[None]:
    """Boot the host whenever it is off, as its firmware would."""
    over = False

    def watch() -> None:
        while not over:
            if testhost("list", told["name"])[0]["state"] == "exited":
                testhost("up", told["name"], f"--debian={told['debian']}")
            time.sleep(0.5)

    with concurrent.futures.ThreadPoolExecutor() as pool:
        watching = pool.submit(watch)
        try:
            yield
        finally:
            over = True
            watching.result()


def boot_of(host: Host) -> str:
    return str(host.check_output("cat /proc/sys/kernel/random/boot_id"))


def test_a_host_that_ends_at_once_and_boots_loses_no_task(host: Host, told: dict[str, Any]) -> None:
    tasks = Tasks(host)
    assert tasks.states()["Running"]

    assert testhost("crash", told["name"])
    up = testhost("up", told["name"], f"--debian={told['debian']}")

    assert up, f"{told['name']} did not boot again"
    assert up["failed_units"] == []
    tasks.wait()


def test_a_host_is_rebooted_when_what_runs_has_ended(
    host: Host, play: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    before = boot_of(host)
    tasks = Tasks(host)

    ran = play("reboot.yml", "--extra-vars=reboot_always=true")

    assert ran.returncode == 0, ran.stdout[-4000:]
    assert boot_of(host) != before
    assert not host.file("/run/lock/drumline-deploy.json").exists
    tasks.wait()
    assert {attempt for _, attempt in tasks.rows()} == {1}, "a task was ended in the middle"


def test_a_drained_host_stays_out_of_service_when_it_is_rebooted(
    host: Host, play: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    served = host.check_output(PROCESSES)

    drained = play("drain.yml", "--extra-vars=drain_anyway=true")
    rebooted = play("reboot.yml", "--extra-vars=reboot_always=true")
    during = host.check_output(PROCESSES)
    back = play("restart.yml")

    for ran in (drained, rebooted, back):
        assert ran.returncode == 0, ran.stdout[-4000:]
    assert during == ""
    assert host.check_output(PROCESSES) == served
