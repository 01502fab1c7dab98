"""Drumline in a project that knows nothing of it but three lines of settings."""

import os
import shutil
import sqlite3
import subprocess
import sys

import pytest

from tests.support.application import Process
from tests.support.paths import BIN, PROJECT, PYTHON
from tests.support.waiting import wait_until

SETTINGS = """
INSTALLED_APPS += ["django_celery_beat", "drumline", "drumline.beat", "jobs"]
CELERY_BROKER_URL = "{broker}"
CELERY_BEAT_SCHEDULER = "drumline.beat.scheduler:Scheduler"
"""
# What Celery's own documentation has every Django project write, and a task.
FILES = {
    "site1/__init__.py": "from .celery import app\n",
    "site1/celery.py": """
import os
from celery import Celery
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "site1.settings")
app = Celery("site1")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
""",
    "jobs/__init__.py": "",
    "jobs/tasks.py": """
from pathlib import Path
from celery import shared_task

@shared_task
def write(path):
    Path(path).write_text("done")
""",
}
EVERY_SECOND = """
from django_celery_beat.models import IntervalSchedule, PeriodicTask
second = IntervalSchedule.objects.create(every=1, period="seconds")
PeriodicTask.objects.create(name="n", task="jobs.tasks.write", args='["{path}"]', interval=second)
"""


class Project:
    """A fresh project on SQLite, with the app `drumline` and nothing else of this repository on its path."""

    def __init__(self, folder, broker_url):
        self.folder = folder / "project"
        (folder / "lib").mkdir()
        shutil.copytree(PROJECT / "drumline" / "src" / "drumline", folder / "lib" / "drumline")
        self.env = {"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONPATH": str(folder / "lib")}
        self.processes = []
        self.folder.mkdir()
        subprocess.run(
            [sys.executable, str(BIN / "django-admin"), "startproject", "site1", str(self.folder)],
            env=self.env,
            check=True,
        )
        (self.folder / "jobs").mkdir()
        for path, text in FILES.items():
            (self.folder / path).write_text(text)
        with (self.folder / "site1" / "settings.py").open("a") as settings:
            settings.write(SETTINGS.format(broker=broker_url))
        self.manage("migrate", "--verbosity", "0")

    def manage(self, *args):
        result = subprocess.run(
            [PYTHON, "manage.py", *args], cwd=self.folder, env=self.env, capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    def delay(self, path):
        self.manage("shell", "--command", f"from jobs.tasks import write; write.delay({str(path)!r})")

    def start(self, *args):
        log = self.folder / f"{len(self.processes)}.log"
        process = Process(list(args), self.env, self.folder, log)
        self.processes.append(process)
        return process

    def celery(self, *args):
        return self.start(str(BIN / "celery"), "-A", "site1", *args)

    def states(self):
        with sqlite3.connect(self.folder / "db.sqlite3", timeout=20) as database:
            return database.execute("SELECT state, attempt FROM drumline_ledger").fetchall()


@pytest.fixture
def project(tmp_path, broker):
    project = Project(tmp_path, broker.url)
    yield project
    for process in project.processes:
        process.stop()


def test_a_fresh_project_has_durable_tasks_by_three_lines_of_settings(project, broker, tmp_path):
    broker.kill()
    project.delay(tmp_path / "sent-without-a-broker")
    assert project.states() == [(0, 0)]

    broker.start()
    project.start(PYTHON, "manage.py", "relay")
    project.celery("worker", "--concurrency", "1", "--loglevel", "INFO").wait_for(" ready.")

    wait_until((tmp_path / "sent-without-a-broker").exists, "the task runs once the broker is there")
    wait_until(lambda: project.states() == [(2, 1)], "its row is finished after one attempt")
    assert "queue" in project.manage("ledger", "status")


def test_a_fresh_project_has_a_schedule_whose_runs_are_durable(project, tmp_path):
    project.manage("shell", "--command", EVERY_SECOND.format(path=tmp_path / "scheduled"))
    project.celery("beat")
    project.celery("worker", "--concurrency", "1")

    wait_until((tmp_path / "scheduled").exists, "the schedule's task runs")
    wait_until(lambda: (2, 1) in project.states(), "its row is finished")
