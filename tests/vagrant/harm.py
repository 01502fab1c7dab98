"""What only a VM can show: limits that a kernel of its own enforces, a boot, a full disk, a clock."""

from __future__ import annotations

import statistics
import time
from typing import Any

from tests.support.waiting import wait_until
from tests.vagrant.fleet import PAUSE, START_SECONDS, FailedError, Fleet

LONG_SECONDS = 25
SLOW_SECONDS = 40
ABSENT_SECONDS = 60
FULL_SECONDS = 40

HOG = f"""
import json
from drumline.tasks import ping
from vmprobe.tasks import hog
neighbours = [ping.apply_async(args=[{LONG_SECONDS}], queue="default").id for _ in range(3)]
print(json.dumps([hog.apply_async(queue="default").id, *neighbours]))
"""
WORK = """
import json
from vmprobe.tasks import work
results = [work.apply_async(args=[3], queue="high") for _ in range(4)]
print(json.dumps(max(result.get(timeout=300) for result in results)))
"""
STARTS = """
import json, time
from drumline.tasks import ping
from drumline.models import DurableTask
ids = []
for _ in range(20):
    ids.append(ping.apply_async(queue="high").id)
    time.sleep(0.3)
deadline = time.monotonic() + 60
rows = DurableTask.objects.filter(id__in=ids, state=DurableTask.State.FINISHED)
while rows.count() < len(ids) and time.monotonic() < deadline:
    time.sleep(0.2)
print(json.dumps([(row.started_at - row.created_at).total_seconds() for row in rows]))
"""
BURN = """
import json
from vmprobe.tasks import burn
print(json.dumps([burn.apply_async(queue="low").id for _ in range(2)]))
"""
RUNNING = """
import json, time
from drumline.tasks import ping
from drumline.models import DurableTask
ids = [ping.apply_async(args=[{seconds}], queue=queue).id for queue in ("low", "high")]
rows = DurableTask.objects.filter(id__in=ids, state=DurableTask.State.RUNNING)
deadline = time.monotonic() + 60
while rows.count() < len(ids) and time.monotonic() < deadline:
    time.sleep(0.2)
print(json.dumps(ids if rows.count() == len(ids) else []))
"""
LATER = """
import json
from drumline.tasks import ping
print(json.dumps([ping.apply_async(queue="high", countdown=5).id]))
"""
ACCOUNTS = """
import json
from apps.users.models import User
from drumline.models import DurableTask
accounts = User.objects.filter(email__startswith={prefix!r})
mails = DurableTask.objects.filter(name="notifications.send_verification_email", created_at__gte={since!r})
print(json.dumps([accounts.count(), sorted({{row.get_state_display() for row in mails}})]))
"""


def memory(vms: Fleet) -> str:
    """A task that takes memory without end, between others in the same unit."""
    vms.install_probe()
    before = vms.processes()
    since = vms.ssh(vms.worker, "date +%s").strip()
    begun = time.monotonic()
    hog, *neighbours = vms.python(HOG, probe=True)
    wait_until(lambda: vms.states([hog])[0][0] == "Dead letter", "the hog is a dead letter", seconds=300, pause=PAUSE)
    took = time.monotonic() - begun
    vms.wait_for_end(neighbours)
    starts = [attempt for _, attempt, _ in vms.states(neighbours)]
    log = vms.ssh(vms.worker, f"journalctl --dmesg --since=@{since} --output=cat --grep='oom-kill:' || true")
    kills = [line for line in log.splitlines() if "drumline-worker@default-" in line]
    limit = vms.ssh(vms.worker, "systemctl show -P MemoryMax drumline-worker@default-1").strip()
    after = vms.processes()
    touched = [unit for unit in before if before[unit][:2] != after.get(unit, ("", ""))[:2]]
    touched += [unit for unit in before if "@default-" not in unit and before[unit][2] != after[unit][2]]
    attempts = vms.states([hog])[0][1]
    if starts != [1] * 3 or touched or len(kills) != attempts or len(log.splitlines()) != len(kills):
        raise FailedError(
            f"neighbours started {starts} times, touched units {touched}, {attempts} starts, kernel:\n{log}"
        )
    return (
        f"killed at {int(limit) >> 20} MB, {len(kills)} times in {attempts} starts, a dead letter after {took:.0f} s; its "
        f"3 neighbours in the same units done at the first start; none of the {len(before)} main processes restarted"
    )


def processor(vms: Fleet) -> str:
    """Work on `high` while `low` burns both processors, by the model's weights and by equal ones."""
    vms.install_probe()
    vms.ssh(vms.worker, "rm -f /var/lib/drumline/stop-burning")
    alone = (vms.python(WORK, probe=True), vms.python(STARTS))
    burning = vms.python(BURN, probe=True)
    wait_until(
        lambda: {state for state, *_ in vms.states(burning)} == {"Running"}, "both burn", seconds=60, pause=PAUSE
    )
    weighted = (vms.python(WORK, probe=True), vms.python(STARTS))
    slices = "drumline-worker-high.slice drumline-worker-low.slice"
    weights = vms.ssh(vms.worker, f"systemctl show -P CPUWeight {slices}").split()
    equal = f"for slice in {slices}; do systemctl set-property --runtime $slice CPUWeight=100; done"
    vms.ssh(vms.worker, equal)
    even = (vms.python(WORK, probe=True), vms.python(STARTS))
    back = "for each in 'high {}' 'low {}'; do set -- $each; systemctl set-property --runtime drumline-worker-$1.slice CPUWeight=$2; done"
    vms.ssh(vms.worker, back.format(*weights) + "; touch /var/lib/drumline/stop-burning")
    vms.wait_for_end(burning)
    vms.ssh(vms.worker, "rm -f /var/lib/drumline/stop-burning")

    def told(name: str, measured: tuple[float, list[float]]) -> str:
        seconds, waits = measured
        return (
            f"{name} {seconds:.1f} s of work, a start after {statistics.median(waits):.2f} s (worst {max(waits):.2f} s)"
        )

    if weighted[0] > 1.35 * alone[0]:
        raise FailedError(f"{told('alone', alone)}; {told('low burns', weighted)}; {told('equal weights', even)}")
    return (
        f"{told('alone', alone)}; {told('low burns at ' + ':'.join(weights), weighted)}; {told('equal weights', even)}"
    )


def disk(vms: Fleet) -> str:
    """A full disk: what is accepted meanwhile is done afterwards, by itself."""
    host = vms.worker
    prefix = f"full-{int(time.time())}"
    since = vms.ssh(host, "date --utc '+%F %T+00:00'").strip()
    answers: dict[int, int] = {}

    def sign_up() -> None:
        account = {"email": f"{prefix}-{sum(answers.values())}@example.com", "password": "a-Long-enough-1-of-them"}
        status = vms.request("/api/users/", account)
        answers[status] = answers.get(status, 0) + 1

    # What was accepted just before counts as well.
    for _ in range(3):
        sign_up()
    fill = "fallocate -l $(df --output=avail --block-size=1 / | tail -n 1) /var/tmp/full; dd if=/dev/zero of=/var/tmp/rest bs=4k"
    vms.ssh(host, f"{fill} 2>/dev/null || true; sync")
    free = vms.ssh(host, "df --output=avail / | tail -n 1").strip()
    begun = time.monotonic()
    while time.monotonic() - begun < FULL_SECONDS:
        sign_up()
        time.sleep(1)
    vms.ssh(host, "rm -f /var/tmp/full /var/tmp/rest; sync")
    freed = time.monotonic()
    wait_until(lambda: vms.request("/readyz") == 200, "the site is ready again", seconds=180, pause=PAUSE)
    back = time.monotonic() - freed
    # A process that the full disk did end has the time that a start may take.
    slowest = max(vms.pings(wait=START_SECONDS).values())
    accepted = answers.get(201, 0)

    def stored() -> list[Any]:
        told: list[Any] = vms.python(ACCOUNTS.format(prefix=prefix, since=since))
        return told

    wait_until(lambda: stored()[1] in ([], ["Finished"]), "every mail is sent", seconds=180, pause=PAUSE)
    accounts = stored()[0]
    if not 3 <= accepted <= accounts or vms.failed_units() or vms.not_active():
        raise FailedError(f"{accepted} accepted, {accounts} stored; {vms.failed_units()}; {vms.not_active()}")
    said = ", ".join(f"{count} with {status}" for status, count in sorted(answers.items()))
    return (
        f"{free} KB free for {FULL_SECONDS} s: answers {said}; ready {back:.0f} s after, the slowest ping "
        f"{slowest:.0f} s; {accounts} accounts stored, every mail sent"
    )


def clock(vms: Fleet) -> str:
    """The clock of the host jumps an hour ahead while a task runs, and back again."""
    host = vms.worker
    vms.ssh(host, "systemctl stop systemd-timesyncd")
    before = {unit: each[:2] for unit, each in vms.processes().items()}
    told = []
    try:
        for jump in ("+1 hour", "-1 hour"):
            running = vms.python(RUNNING.format(seconds=LONG_SECONDS))
            if not running:
                raise FailedError("the two tasks did not run at the same time within a minute")
            vms.ssh(host, f"date --set='{jump}' >/dev/null")
            pings = vms.pings()
            later = vms.wait_for_end(vms.python(LATER), seconds=120)
            vms.wait_for_end(running, seconds=180)
            starts = [attempt for _, attempt, _ in vms.states(running)]
            vms.ssh(host, "drumline-manage heartbeats --max-age=90")
            told.append(
                f"{jump}: running tasks started {'+'.join(map(str, starts))} times, "
                f"slowest ping {max(pings.values()):.1f} s, one due in 5 s done after {later:.0f} s"
            )
    finally:
        vms.ssh(host, "systemctl start systemd-timesyncd")
    after = {unit: each[:2] for unit, each in vms.processes().items()}
    restarted = [unit for unit in before if before[unit] != after.get(unit)]
    return "; ".join(told) + f"; restarted units: {', '.join(restarted) or 'none'}"


def security(vms: Fleet) -> str:
    """What systemd says of each unit that runs."""
    units = sorted(vms.processes())
    script = "".join(f"systemd-analyze security --no-pager {unit} | tail -n 1\n" for unit in units)
    ratings: dict[str, float] = {}
    for unit, line in zip(units, vms.ssh(vms.worker, script).splitlines(), strict=True):
        ratings[unit] = float(line.split(": ")[1].split()[0])
    worst = max(ratings.values())
    if worst > 2.0:
        raise FailedError(str(ratings))
    kinds = {unit.split("@")[0].removesuffix(".service"): rating for unit, rating in ratings.items()}
    return f"{len(ratings)} units, worst {worst}: " + ", ".join(f"{kind} {rating}" for kind, rating in kinds.items())


def _boot(vms: Fleet, absent: str, slow: str) -> str:
    """Boot without one server and with the other one late; then let the missing one come."""
    host = vms.worker
    late = f"/etc/systemd/system/{slow.partition('@')[0]}@.service.d/99-late.conf"
    vms.ssh(
        host,
        f"systemctl mask --quiet {absent}\nmkdir -p $(dirname {late})\n"
        f"printf '[Service]\\nExecStartPre=/usr/bin/sleep {SLOW_SECONDS}\\n' >{late}\nsystemctl daemon-reload\n",
    )
    waiting = vms.send(["high", "low"] * 5, 1)
    vms.vagrant("reload")
    time.sleep(ABSENT_SECONDS)
    gave_up = vms.failed_units()
    without = vms.request("/readyz"), vms.request("/livez")
    begun = time.monotonic()
    vms.ssh(host, f"rm {late}; systemctl daemon-reload; systemctl unmask --quiet {absent}; systemctl start {absent}")
    vms.wait_for_units()
    active = time.monotonic() - begun
    wait_until(lambda: vms.request("/readyz") == 200, "the site is ready", seconds=120, pause=PAUSE)
    vms.wait_for_end(waiting)
    done = time.monotonic() - begun
    vms.pings()
    if gave_up or vms.failed_units():
        raise FailedError(f"gave up: {gave_up} {vms.failed_units()}")
    return (
        f"without it: no unit gave up, /livez {without[1]}, /readyz {without[0]}; after it came, all units active in "
        f"{active:.0f} s and the {len(waiting)} tasks from before the boot done in {done:.0f} s"
    )


def _postgresql(vms: Fleet) -> str:
    listed = vms.ssh(vms.worker, "systemctl list-units --all --plain --no-legend 'postgresql@*' | cut -d' ' -f1")
    return listed.split()[0]


def boot_without_postgresql(vms: Fleet) -> str:
    """PostgreSQL absent, Redis late."""
    return _boot(vms, _postgresql(vms), "redis-server@broker.service")


def boot_without_redis(vms: Fleet) -> str:
    """Redis absent, PostgreSQL late."""
    return _boot(vms, "redis-server@broker.service", _postgresql(vms))
