"""A project that is written to Django's own tasks, by the examples of Django's documentation, run by the ledger.

On the Django of this repository the framework is the backport `django-tasks`; on 6.0 and later it is Django's.
"""

import json
import os
import signal
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support.fresh_project import FreshProject
from tests.support.waiting import wait_until

FRAMEWORK = "django.tasks" if find_spec("django.tasks") else "django_tasks"

SETTINGS = """
INSTALLED_APPS += ["drumline", "jobs"{backport}]
TASKS = {{"default": {{"BACKEND": "drumline.tasks_backend.LedgerBackend", "QUEUES": ["default", "emails"]}}}}
CELERY_TASK_DEFAULT_QUEUE = "default"
CELERY_BROKER_URL = "{broker}"

# Of the test: the queues by name, so that the checks have nothing to say; where e-mails go; the test's client.
from kombu import Queue
CELERY_TASK_QUEUES = [Queue("default"), Queue("emails")]
EMAIL_BACKEND = "django.core.mail.backends.filebased.EmailBackend"
EMAIL_FILE_PATH = BASE_DIR / "sent"
ALLOWED_HOSTS = ["testserver"]
DATABASES["default"]["OPTIONS"] = {{"timeout": 20}}
"""

TASKS = f"""
import asyncio
import logging
import os
import time
from pathlib import Path

from celery import shared_task
from django.contrib.auth.models import Group
from django.core.mail import send_mail
from {FRAMEWORK} import task

logger = logging.getLogger(__name__)


@task(takes_context=True, queue_name="emails", priority=2)
def email_users(context, emails, subject, message):
    logger.warning(f"Attempt {{context.attempt}} to send user email. Task result id: {{context.task_result.id}}.")
    return send_mail(subject=subject, message=message, from_email=None, recipient_list=emails)


@task
def find_thing(thing_num):
    return Group.objects.get(name=thing_num).name


@task()
def double_dictionary(key):
    return {{key: key * 2}}


@task
async def add(first, second):
    await asyncio.sleep(0)
    return first + second


@task(takes_context=True)
def hold(context, folder):
    Path(folder, f"held-{{context.attempt}}").write_text(str(os.getpid()))
    while not Path(folder, "go").exists():
        time.sleep(0.05)
    return context.attempt


@task
def note(folder, name):
    with Path(folder, "order").open("a") as order:
        order.write(name + "\\n")


@shared_task
def write(path):
    Path(path).write_text("done")
"""

ENQUEUE = """
import json
from datetime import timedelta
from functools import partial
from django.contrib.auth.models import Group
from django.core.management import call_command
from django.db import transaction
from django.utils import timezone
from jobs import tasks
call_command("check")
results = {{}}
results["email"] = tasks.email_users.enqueue(
    emails=["user@example.com"], subject="You have a message", message="Hello there!"
)
with transaction.atomic():
    Group.objects.create(name="1")
    results["in a transaction"] = tasks.find_thing.enqueue(thing_num="1")
    transaction.on_commit(partial(tasks.find_thing.enqueue, thing_num="1"))
results["not hashable"] = tasks.double_dictionary.enqueue((1, 2, 3))
results["coroutine"] = tasks.add.enqueue(1, 2)
results["held"] = tasks.hold.enqueue({folder!r})
results["later"] = tasks.find_thing.using(run_after=timezone.now() + timedelta(hours=1)).enqueue("1")
for name, priority in (("low", -100), ("normal", 0), ("high", 10)):
    tasks.note.using(priority=priority).enqueue({folder!r}, name)
tasks.write.delay({celerys!r})
assert all(result.task.get_result(result.id) == result for result in results.values())
print(json.dumps({{name: result.id for name, result in results.items()}}))
"""

READ = """
import asyncio, json
from {framework} import default_task_backend
def told(id):
    result = asyncio.run(default_task_backend.aget_result(id))
    value = result.return_value if result.status == "SUCCESSFUL" else None
    return [result.status, value, [error.exception_class.__name__ for error in result.errors], len(set(result.worker_ids))]
print(json.dumps({{name: told(id) for name, id in {ids!r}.items()}}))
"""

OPERATE = """
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client
client = Client()
client.force_login(User.objects.create_superuser("root"))
print(client.get("/admin/drumline/durabletask/?state=any").content.decode())
call_command("dead_letters", "list")
call_command("dead_letters", "requeue", {id!r})
"""


@pytest.fixture
def project(tmp_path, broker):
    backport = "" if FRAMEWORK == "django.tasks" else ', "django_tasks"'
    project = FreshProject(
        tmp_path,
        SETTINGS.format(broker=broker.url, backport=backport),
        {"jobs/__init__.py": "", "jobs/tasks.py": TASKS},
    )
    yield project
    project.stop()


def shell(project, command: str) -> str:
    return project.manage("shell", "--verbosity", "0", "--command", command)


def read(project, ids: dict[str, str]) -> dict:
    return json.loads(shell(project, READ.format(framework=FRAMEWORK, ids=ids)).splitlines()[-1])


def states(project, name: str) -> list[tuple]:
    return [tuple(row[1:]) for row in project.rows("name, state, attempt") if row[0] == f"jobs.tasks.{name}"]


def test_a_project_written_to_djangos_tasks_runs_on_the_ledger_and_survives_kill_9(project, tmp_path):
    said = shell(project, ENQUEUE.format(folder=str(tmp_path), celerys=str(tmp_path / "celerys"))).splitlines()
    assert "no issues" in said[0]
    ids = json.loads(said[-1])

    project.relay()
    first = worker(project)
    wait_until((tmp_path / "held-1").exists, "the task that is held has started")
    os.killpg(first.popen.pid, signal.SIGKILL)
    first.popen.wait()
    second = worker(project)
    wait_until((tmp_path / "held-2").exists, lambda: f"it has started again\n{second.text()[-3000:]}", seconds=60)
    (tmp_path / "go").touch()

    wait_until(lambda: states(project, "hold") == [(2, 2)], "the task that was held has ended")
    wait_until((tmp_path / "celerys").exists, "the task of Celery has run")
    wait_until(lambda: (tmp_path / "order").exists() and len(order(tmp_path)) == 3, "all three priorities have run")
    ended = {"email_users": [2], "find_thing": [0, 2, 2], "double_dictionary": [3], "add": [2]}
    wait_until(
        lambda: {name: sorted(state for state, _ in states(project, name)) for name in ended} == ended, "the ends"
    )
    assert read(project, ids) == {
        "email": ["SUCCESSFUL", 1, [], 1],
        "in a transaction": ["SUCCESSFUL", "1", [], 1],
        "not hashable": ["FAILED", None, ["TypeError"], 1],
        "coroutine": ["SUCCESSFUL", 3, [], 1],
        "held": ["SUCCESSFUL", 2, ["WorkerLostError"], 2],
        "later": ["READY", None, [], 0],
    }
    # In any order: what the killed worker had reserved comes back after what the broker kept.
    assert sorted(order(tmp_path)) == ["high", "low", "normal"]
    assert "Subject: You have a message" in next((project.folder / "sent").iterdir()).read_text()
    assert f"Attempt 1 to send user email. Task result id: {ids['email']}" in first.text() + second.text()

    # Mend it, and have a person run it again.
    source = project.folder / "jobs" / "tasks.py"
    source.write_text(source.read_text().replace("{key: key * 2}", "key * 2"))
    second.stop()
    page, _, listed = shell(project, OPERATE.format(id=ids["not hashable"])).partition("</html>")
    assert "jobs.tasks.email_users" in page
    assert "jobs.tasks.write" in page
    assert "jobs.tasks.double_dictionary" in listed
    worker(project)
    wait_until(lambda: states(project, "double_dictionary") == [(2, 1)], "the dead letter has run again")
    again = {"not hashable": ids["not hashable"]}
    assert read(project, again) == {"not hashable": ["SUCCESSFUL", [1, 2, 3, 1, 2, 3], ["TypeError"], 2]}


def worker(project):
    return project.celery("worker", "--concurrency", "1", "--loglevel", "INFO", "--queues", "default,emails")


def order(folder: Path) -> list[str]:
    return (folder / "order").read_text().split()
