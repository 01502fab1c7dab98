"""Drumline in a project that knows nothing of it but three lines of settings."""

import pytest

from tests.support.fresh_project import FreshProject
from tests.support.waiting import wait_until

SETTINGS = """
INSTALLED_APPS += ["django_celery_beat", "drumline", "drumline.beat", "jobs"]
CELERY_BROKER_URL = "{broker}"
CELERY_BEAT_SCHEDULER = "drumline.beat.scheduler:Scheduler"
"""
FILES = {
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


@pytest.fixture
def project(tmp_path, broker):
    project = FreshProject(tmp_path, SETTINGS.format(broker=broker.url), FILES)
    yield project
    project.stop()


def test_a_fresh_project_has_durable_tasks_by_three_lines_of_settings(project, broker, tmp_path):
    broker.kill()
    path = str(tmp_path / "sent-without-a-broker")
    project.manage("shell", "--command", f"from jobs.tasks import write; write.delay({path!r})")
    assert project.rows() == [(0, 0)]

    broker.start()
    project.relay()
    project.celery("worker", "--concurrency", "1", "--loglevel", "INFO").wait_for(" ready.")

    wait_until((tmp_path / "sent-without-a-broker").exists, "the task runs once the broker is there")
    wait_until(lambda: project.rows() == [(2, 1)], "its row is finished after one attempt")
    assert "queue" in project.manage("ledger", "status")


def test_a_fresh_project_has_a_schedule_whose_runs_are_durable(project, tmp_path):
    project.manage("shell", "--command", EVERY_SECOND.format(path=tmp_path / "scheduled"))
    project.celery("beat")
    project.celery("worker", "--concurrency", "1")

    wait_until((tmp_path / "scheduled").exists, "the schedule's task runs")
    wait_until(lambda: (2, 1) in project.rows(), "its row is finished")
