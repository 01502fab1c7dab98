"""kill -9 of each process of a host: it comes back by itself.

pytest tests/faults/test_killed_process.py --hosts=ssh://drumline-local --ssh-config=build/ssh/config --sudo
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from testinfra.host import Host

BACK_SECONDS = 60


def long_lived(host: Host) -> list[str]:
    listed = host.check_output(
        "systemctl list-units --plain --no-legend --state=running 'drumline-*.service' nginx.service "
        "'redis-server@*.service' 'postgresql@*.service'"
    )
    return [line.split()[0] for line in listed.splitlines()]


def main_process(host: Host, unit: str) -> str:
    return str(host.check_output(f"systemctl show -P MainPID '{unit}'"))


def test_each_process_comes_back_after_kill_9(host: Host) -> None:
    units = long_lived(host)
    assert any(unit.startswith("drumline-worker@") for unit in units), units
    lost = {}
    for unit in units:
        killed = main_process(host, unit)
        host.check_output(f"kill -9 {killed}")
        started = time.monotonic()
        while time.monotonic() - started < BACK_SECONDS:
            time.sleep(0.5)
            active = host.run(f"systemctl is-active '{unit}'").stdout.strip()
            if active == "active" and main_process(host, unit) not in (killed, "0"):
                break
        else:
            lost[unit] = host.run(f"journalctl --no-pager --lines=20 --unit='{unit}'").stdout
    assert lost == {}
