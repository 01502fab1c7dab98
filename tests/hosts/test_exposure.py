"""Every service that the playbook owns is confined, the server programs of Debian included."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.on_host import properties, ratings

if TYPE_CHECKING:
    from testinfra.host import Host

UNITS = ["nginx.service", "postgresql@*"]

# Where the playbook writes units and drop-ins: a service with a file there is the playbook's to confine. sshd keeps the
# distribution's unit, since a login must be able to do all that its user may.
OURS = "/etc/systemd/system/"
HIGHEST = 3.0


def owned(host: Host) -> list[str]:
    names = host.check_output("systemctl list-units --plain --no-legend --state=active '*.service'")
    active = [line.split()[0] for line in names.splitlines()]
    return [
        name
        for name, unit in properties(host, active, "FragmentPath", "DropInPaths").items()
        if any(path.startswith(OURS) for path in [unit["FragmentPath"], *unit["DropInPaths"].split()])
    ]


def test_systemd_rates_every_service_of_the_playbook_three_or_better(host: Host) -> None:
    names = owned(host)
    assert names, "no active service has a unit or a drop-in of the playbook"
    assert {name: rating for name, rating in ratings(host, names).items() if rating > HIGHEST} == {}


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
