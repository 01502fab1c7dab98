"""kill -9 of each process of a host: it comes back by itself.

pytest tests/faults/test_killed_process.py --hosts=ssh://drumline-local --ssh-config=build/ssh/config --sudo
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.on_host import properties
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from testinfra.host import Host

BACK_SECONDS = 120


def long_lived(host: Host) -> list[str]:
    listed = host.check_output(
        "systemctl list-units --plain --no-legend --state=running 'drumline-*.service' nginx.service "
        "'redis-server@*.service' 'postgresql@*.service'"
    )
    return [line.split()[0] for line in listed.splitlines()]


def main_processes(host: Host, units: list[str]) -> dict[str, str]:
    """The main process of each unit that is active."""
    shown = properties(host, units, "ActiveState", "MainPID")
    return {name: unit["MainPID"] for name, unit in shown.items() if unit["ActiveState"] == "active"}


def kill(host: Host, units: list[str]) -> None:
    """Kill all of them at once, and wait for another life of each."""
    killed = main_processes(host, units)
    assert set(killed) == set(units)
    host.check_output("kill -9 " + " ".join(killed.values()))

    def lost() -> list[str]:
        now = main_processes(host, units)
        return [unit for unit in units if now.get(unit, "0") in (killed[unit], "0")]

    def told() -> str:
        return "\n".join(host.run(f"journalctl --no-pager --lines=20 --unit='{unit}'").stdout for unit in lost())

    wait_until(lambda: not lost(), lambda: f"{lost()} are back\n{told()}", seconds=BACK_SECONDS, pause=0.5)


def test_each_process_comes_back_after_kill_9(host: Host) -> None:
    units = long_lived(host)
    application = [unit for unit in units if unit.startswith("drumline-")]
    assert any(unit.startswith("drumline-worker@") for unit in application), units

    kill(host, application)
    kill(host, [unit for unit in units if unit not in application])
