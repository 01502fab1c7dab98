"""Every service that the playbook owns is confined, the server programs of Debian included."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from testinfra.host import Host

UNITS = ["nginx.service", "postgresql@*"]

# Where the playbook writes units and drop-ins: a service with a file there is the playbook's to confine. sshd keeps the
# distribution's unit, since a login must be able to do all that its user may.
OURS = "/etc/systemd/system/"
HIGHEST = 3.0


def owned(host: Host) -> list[str]:
    names = host.check_output("systemctl list-units --plain --no-legend --state=active '*.service'")
    shown = host.check_output(
        "systemctl show --property=Id,FragmentPath,DropInPaths "
        + " ".join(line.split()[0] for line in names.splitlines())
    )
    units = [dict(line.split("=", 1) for line in block.splitlines()) for block in shown.split("\n\n")]
    return [
        unit["Id"]
        for unit in units
        if any(path.startswith(OURS) for path in [unit["FragmentPath"], *unit["DropInPaths"].split()])
    ]


def test_systemd_rates_every_service_of_the_playbook_three_or_better(host: Host) -> None:
    names = owned(host)
    assert names, "no active service has a unit or a drop-in of the playbook"
    ratings = {}
    for name in names:
        printed = host.run(f"systemd-analyze security --no-pager '{name}'").stdout
        found = re.search(r"exposure level for \S+: (\d+\.\d+)", printed)
        ratings[name] = float(found[1]) if found else 10.0
    assert {name: rating for name, rating in ratings.items() if rating > HIGHEST} == {}


def test_every_server_of_the_host_is_among_them(host: Host) -> None:
    """A server without a drop-in would not be rated at all."""
    rated = " ".join(owned(host))
    installed = {
        "nginx.service": "/usr/sbin/nginx",
        "postgresql@": "/usr/bin/pg_ctlcluster",
        "redis-server@broker.service": "/usr/bin/redis-server",
    }
    present = [unit for unit, program in installed.items() if host.file(program).exists]
    assert [unit for unit in present if unit not in rated] == []
