"""A project that was written without Drumline runs on its hosts: nothing of its checkout is edited, and a manager hears of it."""

import os
import signal
import socket
import sqlite3
import subprocess
import threading

import pytest

from tests.support.fresh_project import JOBS, FreshProject
from tests.support.waiting import wait_until

SETTINGS = """
INSTALLED_APPS += ["jobs"]
CELERY_BROKER_URL = "{broker}"
CELERY_TASK_ROUTES = {{"jobs.tasks.write": {{"queue": "HIGH-priority"}}}}
CELERY_BEAT_SCHEDULE = {{"n": {{"task": "jobs.tasks.write", "schedule": 1, "args": ["{path}"]}}}}
"""
SERVED = ["celery", "HIGH-priority"]
APP = "--app=drumline.hosting.celery:app"


class Manager:
    """What a process tells its service manager."""

    def __init__(self, path):
        self.path = path
        self.heard = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self):
        while said := self._socket.recv(4096).decode():
            self.heard.append(said)

    def hears(self, word):
        wait_until(
            lambda: any(word in said for said in self.heard), lambda: f"{word!r} in {self.heard[-5:]}", seconds=60
        )

    def close(self):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"", str(self.path))
        self._thread.join()
        self._socket.close()


class Hosted(FreshProject):
    """A project with the variables that a deploy gives it."""

    def __init__(self, folder, settings, *, ledger):
        super().__init__(folder, settings, JOBS)
        before = self.tree()
        self.managers = []
        self.env |= {
            "DJANGO_SETTINGS_MODULE": "drumline.hosting.settings",
            "HOSTED_SETTINGS_MODULE": "site1.settings",
            "HOSTED_CELERY": "site1.celery:app",
            "HOSTED_QUEUES": ",".join(SERVED),
            "HOSTED_LEDGER": "true" if ledger else "",
            "HOSTED_SETTINGS": '{"DEBUG": false, "ALLOWED_HOSTS": ["localhost"]}',
            "HOSTED_STAFF_PATH": "/_drumline/staff",
            "CELERY_TASK_SOFT_TIME_LIMIT": "60",
            "CELERY_TASK_TIME_LIMIT": "90",
            "CELERY_VISIBILITY_TIMEOUT": "600",
        }
        self.manage("migrate", "--verbosity", "0")
        assert self.tree() == before

    def tree(self):
        return {path: path.read_bytes() for path in self.folder.rglob("*.py")}

    def notified(self, *args):
        manager = Manager(self.folder.parent / f"notify{len(self.managers)}")
        self.managers.append(manager)
        return self.start(self.python, "-m", "celery", APP, *args, NOTIFY_SOCKET=str(manager.path)), manager

    def worker(self, queue, name):
        named = (f"--queues={queue}", f"--hostname={name}@h", "--concurrency=1", "--loglevel=INFO")
        worker, manager = self.notified("worker", *named)
        manager.hears("READY=1")
        return worker, manager

    def start(self, *args, **env):
        own, self.env = self.env, self.env | env
        try:
            return super().start(*args)
        finally:
            self.env = own

    def hosting(self, *args, stdin=""):
        return subprocess.run(
            [self.python, "-m", "drumline.hosting", *args],
            cwd=self.folder,
            env=self.env,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )

    def send(self, task, path):
        self.manage("shell", "--command", f"from jobs.tasks import {task}; {task}.delay({str(path)!r})")


@pytest.fixture
def hosted(tmp_path, broker):
    made = []

    def hosted(*, ledger):
        made.append(Hosted(tmp_path, SETTINGS.format(broker=broker.url, path=tmp_path / "scheduled"), ledger=ledger))
        return made[-1]

    yield hosted
    for project in made:
        project.stop()
        for manager in project.managers:
            manager.close()


def test_without_the_ledger_workers_and_beat_say_ready_and_run_tasks_and_a_deploy_sees_it(hosted, tmp_path):
    project = hosted(ledger=False)
    _, of_beat = project.notified("beat", f"--schedule={tmp_path}/schedule")
    of_beat.hears("READY=1\nWATCHDOG=1\nSTATUS=2 entries")
    worker, of_worker = project.worker("HIGH-priority", "high-1")
    wait_until((tmp_path / "scheduled").exists, "the schedule's task runs")
    of_worker.hears("WATCHDOG=1\nSTATUS=HIGH-priority: 0 running")
    pinged = project.hosting("ping", "high-1@h", "--queue=HIGH-priority,celery", "--wait=20")
    assert "high-1@h runs tasks" in pinged.stdout, pinged.stderr
    assert '"state": "SUCCESS", "worker": "high-1@h"' in pinged.stdout
    assert pinged.stderr.strip() == "no worker consumes the queue celery"
    os.kill(worker.popen.pid, signal.SIGTERM)
    of_worker.hears("STOPPING=1")
    with sqlite3.connect(project.folder / "db.sqlite3") as database:
        assert database.execute("SELECT count(*) FROM sqlite_master WHERE name LIKE 'drumline%'").fetchone() == (0,)


def test_a_deploy_is_told_what_would_not_run_and_what_is_not_guaranteed_and_creates_an_administrator_once(hosted):
    project = hosted(ledger=False)
    first, second = (project.hosting("admin", "ada@example.com", stdin="a long password\n") for _ in range(2))
    assert (first.stdout.strip(), second.stdout.strip()) == ("ada@example.com created", "ada@example.com exists")

    checked = project.hosting("check", f"--serve={','.join(SERVED)}")
    assert checked.returncode == 0, checked.stderr
    assert "missing: a killed worker's tasks run again only after the broker's visibility timeout" in checked.stdout
    assert "missing: task_acks_late is False" in checked.stdout
    unserved = project.hosting("check", "--serve=celery").stderr
    assert "queue HIGH-priority has no workers, but route jobs.tasks.write sends to it" in unserved
    for named, said in (
        ("site1.selery:app", "there is no module site1.selery"),
        ("site1.celery:application", "the module site1.celery has no application"),
        ("site1.settings:DEBUG", "which is a bool, not a Celery application"),
    ):
        project.env["HOSTED_CELERY"] = named
        refused = project.hosting("check")
        assert refused.returncode == 1
        assert said in refused.stderr
        assert "Traceback" not in refused.stderr


def test_by_one_variable_a_killed_workers_task_runs_again_the_schedule_is_kept_and_health_is_answered(hosted, tmp_path):
    project, effects = hosted(ledger=True), tmp_path / "effects"
    project.relay()
    worker, _ = project.worker("celery", "low-1")
    project.send("hold", effects)
    wait_until(effects.exists, "the task starts")
    os.killpg(worker.popen.pid, signal.SIGKILL)
    project.worker("celery", "low-1")
    (tmp_path / "effects.gate").touch()
    wait_until(lambda: effects.read_text().count("ended") == 1, "it runs again and ends", seconds=60)
    wait_until(lambda: project.rows() == [(2, 2)], "its row is finished by the second attempt")

    _, of_beat = project.notified("beat")
    of_beat.hears("READY=1")
    project.worker("HIGH-priority", "high-1")
    wait_until((tmp_path / "scheduled").exists, "the schedule's task runs")
    client = "from django.test import Client; c = Client(HTTP_HOST='localhost')"
    asked = f"{client}; print([c.get(p).status_code for p in ('/livez', '/_drumline/staff', '/other')],"
    asked += " c.get('/other', headers={'X-Forwarded-Proto': 'https'}).wsgi_request.is_secure())"
    assert project.manage("shell", "--command", asked).strip().endswith("[200, 401, 404] True")


def test_settings_in_the_class_of_a_configuration_are_hosted_whoever_reads_them(hosted):
    project = hosted(ledger=True)
    path = project.folder / "site1/settings.py"
    body = "".join(f"    {line}\n" for line in path.read_text().splitlines() if not line.startswith(("import", "from")))
    head = "from pathlib import Path\nfrom configurations import Configuration\n\nclass Production(Configuration):\n"
    path.write_text(head + body + "    TITLE = property(lambda self: 'of the class')\n")
    project.env["DJANGO_CONFIGURATION"] = "Production"
    asked = (
        "from django.conf import settings; print(settings.TITLE, settings.DEBUG, 'drumline' in settings.INSTALLED_APPS)"
    )

    assert project.manage("shell", "--command", asked).strip().endswith("of the class False True")
    # Its own way to begin looks for the class in the module that Django names.
    manage = project.folder / "manage.py"
    manage.write_text(manage.read_text().replace("django.core.management", "configurations.management"))
    assert project.manage("shell", "--command", asked).strip().endswith("of the class False True")


def test_what_a_project_set_unsafely_is_safe_and_its_options_of_the_broker_are_what_its_own_checks_expect(hosted):
    project = hosted(ledger=True)
    with (project.folder / "site1/settings.py").open("a") as settings:
        settings.write("CELERY_TASK_ACKS_LATE = False\nCELERY_BEAT_SCHEDULER = 'celery.beat:PersistentScheduler'\n")
        settings.write("DATABASES['default']['CONN_MAX_AGE'] = 60\n")
        settings.write("from kombu import Queue\nCELERY_TASK_QUEUES = (Queue('celery', routing_key='celery.#'),)\n")
    celery = project.folder / "site1/celery.py"
    celery.write_text(
        celery.read_text() + "app.conf.broker_transport_options = {'queue_order_strategy': 'priority', 'sep': ':'}\n"
    )
    asked = "from site1.celery import app; from drumline.preflight.celery_settings import settings_problems;"
    asked += "from drumline.preflight.django_settings import django_problems;"
    asked += "print(*settings_problems(app), *django_problems());"
    asked += "print({name: queue.routing_key for name, queue in app.amqp.queues.items()});"
    asked += "print(dict(app.conf.broker_transport_options), app.connection_for_write().transport_options)"
    *problems, queues, told = project.manage("shell", "--command", asked).strip().splitlines()

    assert told.startswith("{'queue_order_strategy': 'priority', 'sep': ':'} {")
    assert "sep" not in told.partition("} {")[2], "Flower would not find the workers"
    for option in ("'queue_order_strategy': 'priority'", "'socket_timeout': 10", "'visibility_timeout': 600"):
        assert option in told.partition("} {")[2], told
    assert queues == "{'celery': 'celery.#', 'HIGH-priority': 'HIGH-priority'}"
    for setting in (
        "socket_timeout",
        "task_acks_late",
        "beat_scheduler",
        "health checks",
        "task_create_missing_queues",
    ):
        assert setting not in " ".join(problems)
