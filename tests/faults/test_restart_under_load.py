"""systemctl restart of a whole queue while it works: no task is lost, and each instance is back by itself."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from testinfra.host import Host

TASKS = 12
BUSY_SECONDS = 3
DONE_SECONDS = 120

SEND = f"""
from drumline.health.tasks import ping
print(*[ping.apply_async(args=[{BUSY_SECONDS}], queue="high").id for _ in range({TASKS})])
"""
STATES = """
import json, sys
from django_celery_results.models import TaskResult
rows = TaskResult.objects.filter(task_id__in=sys.stdin.read().split())
print(json.dumps(list(rows.values_list("status", flat=True))))
"""


def last_line(host: Host, script: str, standard_input: str = "") -> str:
    told = host.run(f"printf %s '{standard_input}' | drumline-manage shell --verbosity=0 --command='{script}'")
    assert told.rc == 0, told.stderr
    return str(told.stdout.strip().splitlines()[-1])


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
