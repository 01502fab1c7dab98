"""A crash between every pair of steps: of sending, claiming, running, closing, of the relay and of beat.

Each point names a function and whether the process dies before or after it, which it does once. What was committed is
done afterwards, by whoever is there: at least once, and never is a row lost.
"""

import subprocess
from pathlib import Path
from typing import NamedTuple

from tests.faults.rig import System
from tests.support.application import Process
from tests.support.waiting import wait_until


class Point(NamedTuple):
    """Who dies where."""

    process: str
    function: str
    when: str
    task: str = "faults.effect"
    call: int = 1

    def __str__(self) -> str:
        return f"{self.process}: {self.when} {self.function.split(':')[1]}" + (
            f" of {self.task}" * (self.task != "faults.effect")
        )


def around(process: str, function: str, **more: object) -> list[Point]:
    return [Point(process, function, "before", **more), Point(process, function, "after", **more)]


SENDING = [
    *around("sender", "drumline.ledger.postgresql:PostgreSQLStore.insert"),
    *around("sender", "django.db.backends.base.base:BaseDatabaseWrapper.commit"),
    *around("sender", "drumline.sending.enqueue:publish"),
    *around("sender", "drumline.celery_hooks.ring:Pushing.push"),
]
# The worker's main process: taking the message from Redis, counting it, acknowledging it.
DELIVERY = [
    *around("worker", "drumline.celery_hooks.ring:QoS.append"),
    *around("worker", "celery.worker.request:Request.acknowledge"),
    *around("worker", "drumline.celery_hooks.ring:QoS.ack"),
]
# The pool's process.
RUNNING = [
    *around("worker", "drumline.worker.claims:Claims.claim"),
    *around("worker", "faultprobe.tasks:started"),
    *around("worker", "faultprobe.tasks:ended"),
    *around("worker", "drumline.worker.claims:Claims.finished"),
    *around("worker", "drumline.ledger.postgresql:PostgreSQLStore.finish"),
    *around("worker", "drumline.ledger.postgresql:PostgreSQLStore.fail", task="faults.fail"),
    *around("worker", "drumline.ledger.postgresql:PostgreSQLStore.requeue", task="faults.retry_once"),
]
# A retry's due time has the relay publish; a worker that is killed has it take a task back.
RELAY = [
    *around("relay", "drumline.relay.relay:publish", task="faults.retry_once"),
    *around("relay", "drumline.relay.relay:Relay._publish_batch", task="faults.retry_once"),
    *around("relay", "drumline.ledger.recovery:worker_release", task="killed"),
    *around("relay", "drumline.ledger.recovery:task_lost", task="killed"),
    *around("relay", "drumline.relay.relay:_mark", task="forgotten"),
]
BEAT = [
    *around("beat", "drumline.beat.scheduler:Scheduler._send"),
    Point("beat", "drumline.beat.scheduler:Scheduler._run", "after"),
    *around("beat", "drumline.sending.enqueue:publish"),
    Point("beat", "drumline.beat.scheduler:Scheduler._claim", "after"),
]
POINTS = [*SENDING, *DELIVERY, *RUNNING, *RELAY, *BEAT]
EVERY_SECOND = """
from django_celery_beat.models import IntervalSchedule, PeriodicTask
second = IntervalSchedule.objects.create(every=1, period="seconds")
PeriodicTask.objects.create(name="faults", task="faults.effect", interval=second)
"""
# One of each kind, for a run of a minute.
SELECTION = [SENDING[3], SENDING[4], DELIVERY[0], RUNNING[1], RUNNING[8], RELAY[1], BEAT[2]]


class Stage:
    """The system's processes, of which one is the victim of each point."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.crashed = Path()
        self.beaten = 0
        self.relay: Process = system.application.processes[0]
        self.name = "one"
        self.worker = system.worker(self.name)

    def injection(self, point: Point) -> dict[str, str]:
        self.crashed = self.system.folder / f"crashed-{len(list(self.system.folder.glob('crashed-*')))}-{point.when}"
        return {
            "FAULTS_CRASH": f"{point.function}:{point.when}:{point.call}",
            "FAULTS_CRASHED": str(self.crashed),
        }

    def play(self, point: Point) -> None:
        system, crash = self.system, self.injection(point)
        if point.process == "sender":
            system.send_all([(point.task, [], 3)], check=False, **crash)
        elif point.process == "worker":
            self.worker = self.again(self.worker, crash)
            system.send_many(point.task, count=3)
        elif point.process == "beat":
            self.beat(crash)
        else:
            self.relay.stop()
            self.relay = system.application.start(*self.relay.args, **crash)
            self.disturb(point.task)
        wait_until(self.crashed.exists, f"{point} is reached", seconds=40)
        if point.process == "worker":
            # A pool's process is replaced by the worker, the worker by its service.
            system.drained(seconds=1)
        elif point.process == "relay":
            # It says so right before it dies.
            self.relay.popen.wait(timeout=10)
        if not self.worker.alive():
            self.worker = system.worker(self.name)
        if not self.relay.alive():
            self.relay = system.relay()

    def beat(self, crash: dict[str, str]) -> None:
        """Let one beat crash, another go on, and count what they say that they have sent."""
        system = self.system
        if not system.value("SELECT count(*) FROM django_celery_beat_periodictask WHERE name = 'faults'"):
            system.application.manage("shell", "--command", EVERY_SECOND)
        runs = "SELECT total_run_count FROM django_celery_beat_periodictask WHERE name = 'faults'"
        system.application.beat(**crash).popen.wait(timeout=40)
        before = system.value(runs)
        beat = system.application.beat()
        wait_until(lambda: system.value(runs) > before + 1, "another beat goes on")
        beat.stop()
        sent = system.sql(
            "INSERT INTO sent SELECT id::text FROM drumline_ledger ON CONFLICT DO NOTHING RETURNING task_id"
        )
        self.beaten += len(sent)
        assert self.beaten == system.value(runs), "each run that beat counts has its task, and the reverse"

    def again(self, worker: Process, env: dict[str, str]) -> Process:
        worker.stop()
        return self.system.worker(self.name, **env)

    def disturb(self, what: str) -> None:
        """Give the relay something to do."""
        system = self.system
        if what == "killed":
            # On a busy machine its sender takes seconds to end.
            system.send("faults.effect", 6)
            running = "SELECT count(*) FROM drumline_ledger WHERE state = 1"
            wait_until(lambda: system.value(running), "a task runs")
            system.kill(self.name)
            # Under another name, as the same one would take its tasks back itself.
            self.name = f"other{len(system.application.processes)}"
            self.worker = system.worker(self.name)
        elif what == "forgotten":
            self.worker.stop()
            system.send_many("faults.effect", count=3)
            system.broker.client.flushall()
            self.worker = system.worker(self.name)
        else:
            system.send_many(what, count=3)


def test_a_crash_between_any_two_steps_loses_no_row(system, fault_row, full):
    points = POINTS if full else SELECTION
    fault_row.says(
        f"a crash at {len(points)} points: between the steps of sending, claiming, running, closing, the relay and beat",
        "each task that was committed is done, at least once; no row is lost",
    )
    failed = []
    with system("drumline", DRUMLINE_LEASE="4") as harmed:
        stage = Stage(harmed)
        for point in points:
            try:
                stage.play(point)
            except (AssertionError, subprocess.TimeoutExpired) as error:
                failed.append(f"{point}: {error}")
            harmed.drained(seconds=45, quiet=45)
            orphans = harmed.value(
                "SELECT count(*) FROM sent FULL JOIN drumline_ledger ON task_id = id::text "
                "WHERE task_id IS NULL OR id IS NULL"
            )
            open_rows = 0
            try:
                harmed.closed()
            except AssertionError:
                open_rows = harmed.value("SELECT count(*) FROM drumline_ledger WHERE state IN (0, 1)")
            if harmed.lost() or orphans or open_rows:
                failed.append(f"{point}: {harmed.lost()} lost, {orphans} rows without pair, {open_rows} stuck")
                harmed.sql("TRUNCATE sent, run, effect, drumline_ledger")
        came = harmed.outcome()
        fault_row.got(
            f"{len(points) - len(failed)} of {len(points)} points hold; of {came['sent']} tasks {came['lost']} lost, "
            f"{came['reruns']} started again{'; ' if failed else ''}{'; '.join(failed)}"
        )
        assert failed == [], harmed.logs()
