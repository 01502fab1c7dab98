"""systemctl restart while the host works: of a whole queue, of web, of everything. No task is lost, no request fails."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from tests.support.on_host import last_line, properties
from tests.support.visitors import Visitors
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from testinfra.host import Host

TASKS = 12
BUSY_SECONDS = 3
DONE_SECONDS = 120

SEND = f"""
from drumline.tasks import ping
print(*[ping.apply_async(args=[{BUSY_SECONDS}], queue="high").id for _ in range({TASKS})])
"""
STATES = """
import json, sys
from django_celery_results.models import TaskResult
rows = TaskResult.objects.filter(task_id__in=sys.stdin.read().split())
print(json.dumps(list(rows.values_list("status", flat=True))))
"""


def visits(host: Host, seconds: int, during: str) -> list[str]:
    """How the site answered those who came, five a second, while a command ran on the host."""
    with Visitors(host, "/livez", rate=5, least=5 * seconds) as visitors:
        host.check_output(during)
    return [visit.status for visit in visitors.visits]


def socket_is_open_since(host: Host) -> str:
    return str(host.check_output("systemctl show -P ActiveEnterTimestampMonotonic drumline-web.socket"))


def test_the_site_answers_everyone_while_one_of_its_instances_after_the_other_restarts(host: Host) -> None:
    restart = "systemctl restart drumline-web@1.service && systemctl restart drumline-web@2.service"

    assert set(visits(host, 15, restart)) == {"200"}


def test_who_comes_while_the_whole_application_restarts_waits_and_is_answered(host: Host) -> None:
    before = socket_is_open_since(host)

    answers = visits(host, 10, "systemctl restart drumline.target")

    assert socket_is_open_since(host) == before, "the socket was closed: requests were refused"
    assert set(answers) == {"200"}


def test_a_queue_that_is_restarted_while_it_works_loses_no_task(host: Host) -> None:
    identities = last_line(host, SEND)
    assert len(identities.split()) == TASKS
    instances = host.check_output(
        "systemctl list-units --plain --no-legend 'drumline-worker@high-*' | cut -d' ' -f1"
    ).split()
    before = {name: host.check_output(f"systemctl show -P MainPID '{name}'") for name in instances}
    started = time.monotonic()
    while "STARTED" not in last_line(host, STATES, identities):
        assert time.monotonic() - started < DONE_SECONDS, "no task was started"

    host.check_output("systemctl restart 'drumline-worker@high-*'")

    for name in instances:
        assert host.check_output(f"systemctl is-active '{name}'") == "active"
        assert host.check_output(f"systemctl show -P MainPID '{name}'") != before[name], f"{name} was not restarted"
    states: list[str] = []
    while states != ["SUCCESS"] * TASKS:
        assert time.monotonic() - started < DONE_SECONDS, f"of {TASKS} tasks these are known: {states}"
        states = json.loads(last_line(host, STATES, identities))


def test_a_stopped_application_stays_stopped_when_somebody_comes(host: Host) -> None:
    host.check_output("systemctl stop drumline.target")
    try:
        # It goes once the last instance has ended, for which the stop of the target does not wait.
        deadline = time.monotonic() + DONE_SECONDS
        while host.run("systemctl is-active drumline-web.socket").stdout.strip() != "inactive":
            assert time.monotonic() < deadline, "the socket of a stopped application is still open"
        assert set(visits(host, 1, "true")) == {"503"}
        assert host.run("systemctl is-active drumline-web@1.service").stdout.strip() != "active"
    finally:
        host.check_output("systemctl start drumline.target")


def test_a_stand_in_that_is_relieved_before_it_is_ready_has_not_failed(host: Host) -> None:
    stand_in = "drumline-worker@low-0.service"
    instances = host.check_output(
        "systemctl list-units --plain --no-legend --state=active 'drumline-worker@low-*.service' | wc -l"
    )
    host.check_output(f"systemctl start --no-block {stand_in}")

    host.check_output(f"/usr/local/libexec/drumline-relieve drumline-worker@low {instances}")

    wait_until(
        lambda: host.run(f"systemctl is-active {stand_in}").stdout.strip() in ("inactive", "failed"),
        "the stand-in has ended",
    )
    ended = properties(host, [stand_in], "ActiveState", "Result")[stand_in]
    assert (ended["ActiveState"], ended["Result"]) == ("inactive", "success")


def test_what_a_deploy_held_back_is_restarted_as_another_instance_of_its_queue_comes_up(host: Host) -> None:
    first, held_back = "drumline-worker@low-1.service", "drumline-worker@low-2.service"
    mark = f"/run/drumline-held-back/{held_back}"

    def worker() -> dict[str, str]:
        return properties(host, [held_back], "ActiveState", "MainPID")[held_back]

    before = worker()
    host.check_output(f"install -D /dev/null {mark}")

    host.check_output(f"systemctl restart {first}")

    wait_until(lambda: worker()["MainPID"] not in ("0", before["MainPID"]), "it has restarted", seconds=60)
    wait_until(lambda: worker()["ActiveState"] == "active", "it is up", seconds=60)
    assert not host.file(mark).exists
