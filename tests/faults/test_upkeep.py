"""What operators and timers do to the servers of a host works within the servers' sandboxes.

pytest tests/faults/test_upkeep.py --hosts=ssh://drumline-local --ssh-config=build/ssh/config --sudo
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from uuid import uuid4

if TYPE_CHECKING:
    from testinfra.host import Host

LOG = "/var/log/nginx/drumline.log"
SECONDS = 30

# The certificate is checked in tests/hosts.
ASK = """
import http.client, ssl
connection = http.client.HTTPSConnection("127.0.0.1", context=ssl._create_unverified_context(), timeout=20)
connection.request("GET", "{path}")
print(connection.getresponse().status)
"""


def ask(host: Host, path: str) -> int:
    return int(host.check_output(f"python3 -c '{ASK.format(path=path)}'"))


def workers(host: Host) -> set[str]:
    return set(host.check_output("pgrep --full 'nginx: worker process$'").split())


def test_nginx_takes_a_new_configuration(host: Host) -> None:
    before = workers(host)

    host.check_output("systemctl reload nginx")

    deadline = time.monotonic() + SECONDS
    while not workers(host) - before:
        assert time.monotonic() < deadline, "no worker process was started by the reload"
    assert ask(host, "/livez") == 200


def test_nginx_writes_to_the_new_log_after_a_rotation(host: Host) -> None:
    host.check_output("logrotate --force /etc/logrotate.d/nginx")

    path = f"/{uuid4().hex}"
    ask(host, path)

    deadline = time.monotonic() + SECONDS
    while path not in host.file(LOG).content_string:
        assert time.monotonic() < deadline, f"{LOG} has nothing of a request that came after the rotation"
    assert (host.file(LOG).mode, host.file(LOG).user) == (0o640, "www-data")


def test_the_database_is_stopped_by_its_own_program_and_comes_back(host: Host) -> None:
    unit = host.check_output("systemctl list-units --plain --no-legend 'postgresql@*'").split()[0]

    host.check_output(f"systemctl restart {unit}")

    # A stop that fails is ended by systemd, and said in the journal.
    journal = host.check_output(f"journalctl --no-pager --output=cat --unit={unit} --since=-2min")
    assert "Failed with result" not in journal
    assert "Deactivated successfully" in journal
    assert host.check_output("runuser -u postgres -- psql --no-psqlrc -Atc 'select 1'") == "1"


def test_the_database_is_dumped_whole(host: Host) -> None:
    dumped = host.check_output("runuser -u postgres -- pg_dump drumline")
    assert "CREATE TABLE public.drumline_" in dumped


def test_a_large_query_is_compiled_by_the_database(host: Host) -> None:
    """Its compiler writes code into memory, which a stricter sandbox would refuse in the middle of a query."""
    query = "set jit_above_cost = 0; explain analyze select sum(n) from generate_series(1, 1000) n"
    assert "Aggregate" in host.check_output(f"runuser -u postgres -- psql --no-psqlrc -Atc '{query}'")
