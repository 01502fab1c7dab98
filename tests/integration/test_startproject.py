"""The package as it is built, in a project that knows nothing of it but what its README says."""

import os
import re
import signal
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.support.fresh_project import JOBS, FreshProject
from tests.support.paths import BIN, PROJECT, PYTHON
from tests.support.waiting import wait_until

PACKAGE = PROJECT / "drumline"
# Other versions than the locked ones, as `make test-matrix` has them: the Python of an environment that holds the package.
GIVEN = os.environ.get("DRUMLINE_PYTHON")
EVERY_SECOND = """
from django_celery_beat.models import IntervalSchedule, PeriodicTask
second = IntervalSchedule.objects.create(every=1, period="seconds")
PeriodicTask.objects.create(name="n", task="jobs.tasks.write", args='["{path}"]', interval=second)
"""
ABSENT = """
from importlib.util import find_spec
print([name for name in ("django_celery_beat", "django_celery_results", "psycopg", "structlog") if find_spec(name)])
"""


def settings_of_the_readme() -> list[str]:
    """Return what the README has a project add: the line for the ledger, then those for the schedule."""
    block = re.search(r"^```python\n(.*?)^```", (PACKAGE / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert block
    return [line for line in block[1].splitlines() if not line.startswith("#")]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    run(BIN / "uv", "build", "--quiet", "--offline", "--package", "drumline", "--out-dir", folder, cwd=PROJECT)
    return folder


@pytest.fixture(scope="module")
def environment(built, tmp_path_factory):
    """Return the Python of an environment that holds the wheel and the locked versions of what it needs, and no more."""
    made = {}

    def environment(*extras):
        if GIVEN:
            return Path(GIVEN)
        if extras not in made:
            folder, lock = tmp_path_factory.mktemp("env"), tmp_path_factory.mktemp("lock") / "pylock.toml"
            run(BIN / "uv", "venv", "--quiet", "--python", PYTHON, "--clear", folder)
            wanted = [word for extra in extras for word in ("--extra", extra)]
            only = ["--package", "drumline", "--no-default-groups", "--group", "project", "--no-emit-workspace"]
            run(BIN / "uv", "export", "--quiet", "--frozen", *only, *wanted, "--output-file", lock, cwd=PROJECT)
            install = [BIN / "uv", "pip", "install", "--quiet", "--offline", "--python", folder / "bin" / "python"]
            run(*install, "--requirements", lock)
            [wheel] = built.glob("*.whl")
            run(*install, f"{wheel}[{','.join(extras)}]" if extras else wheel)
            made[extras] = folder / "bin" / "python"
        return made[extras]

    return environment


def run(*args, cwd=None) -> str:
    result = subprocess.run(args, cwd=cwd, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture
def start_project(tmp_path, broker, environment):
    projects = []

    def start_project(*extras, lines):
        own = ['INSTALLED_APPS += ["jobs"]', f'CELERY_BROKER_URL = "{broker.url}"']
        settings = "\n".join(["", *settings_of_the_readme()[:lines], *own, ""])
        projects.append(FreshProject(tmp_path, settings, JOBS, python=environment(*extras)))
        return projects[-1]

    yield start_project
    for project in projects:
        project.stop()


def send(project, task, path):
    project.manage("shell", "--command", f"from jobs.tasks import {task}; {task}.delay({str(path)!r})")


def start_worker(project):
    worker = project.celery("worker", "--concurrency", "1", "--loglevel", "INFO")
    worker.wait_for(" ready.")
    return worker


def test_one_line_of_settings_makes_tasks_durable_with_no_optional_package_installed(start_project, broker, tmp_path):
    project = start_project(lines=1)
    assert GIVEN or run(project.python, "-c", ABSENT).strip() == "[]"
    project.manage("makemigrations", "--check")
    broker.kill()
    send(project, "write", tmp_path / "sent-without-a-broker")
    assert project.rows() == [(0, 0)]

    broker.start()
    project.relay()
    start_worker(project)

    wait_until((tmp_path / "sent-without-a-broker").exists, "the task runs once the broker is there")
    wait_until(lambda: project.rows() == [(2, 1)], "its row is finished after one attempt")
    assert "queue" in project.manage("ledger", "status")


def test_a_task_whose_worker_is_killed_in_the_middle_of_it_runs_again(start_project, tmp_path):
    project, effects = start_project(lines=1), tmp_path / "effects"
    project.relay()
    worker = start_worker(project)
    send(project, "hold", effects)
    wait_until(effects.exists, "the task has started")
    assert project.rows() == [(1, 1)]

    os.killpg(worker.popen.pid, signal.SIGKILL)
    worker.popen.wait()
    Path(f"{effects}.gate").touch()
    start_worker(project)

    wait_until(lambda: project.rows() == [(2, 2)], "the task has run again, and its row is finished")
    assert effects.read_text().split() == ["started", "started", "ended"]


@pytest.mark.skipif(not GIVEN, reason="tests/integration/test_broker_loss.py does so with the locked versions")
def test_a_worker_that_loses_redis_in_the_middle_of_a_task_lives_on(start_project, broker, tmp_path):
    project, effects = start_project(lines=1), tmp_path / "effects"
    # As drumline_check asks for it: a message that is not acknowledged is what Celery 5.7.0 ends at.
    project.env["DJANGO_SETTINGS_MODULE"] = "site1.acks_late"
    (project.folder / "site1" / "acks_late.py").write_text("from .settings import *\nCELERY_TASK_ACKS_LATE = True\n")
    worker = start_worker(project)
    send(project, "hold", effects)
    wait_until(effects.exists, "the task has started")

    broker.kill()
    # Several failed attempts: some versions die while they reconnect, not when they lose the connection.
    worker.wait_for("Trying again in 4.00 seconds")
    broker.start()
    Path(f"{effects}.gate").touch()
    wait_until(lambda: project.rows() == [(2, 1)], "the task has ended, and ran once")
    send(project, "write", tmp_path / "next")

    wait_until((tmp_path / "next").exists, "the worker runs the next task", seconds=60)
    assert worker.alive()


@pytest.mark.skipif(
    bool(GIVEN)
    and subprocess.run([GIVEN, "-c", "import django_celery_beat"], check=False, capture_output=True).returncode,
    reason="django-celery-beat does not install beside this Django",
)
def test_the_readmes_settings_give_a_schedule_whose_runs_are_durable(start_project, tmp_path):
    project = start_project("beat", lines=3)
    project.manage("makemigrations", "--check")
    project.manage("shell", "--command", EVERY_SECOND.format(path=tmp_path / "scheduled"))
    project.celery("beat")
    start_worker(project)

    wait_until((tmp_path / "scheduled").exists, "the schedule's task runs")
    wait_until(lambda: (2, 1) in project.rows(), "its row is finished")


def source() -> set[str]:
    files = (path for path in (PACKAGE / "src").rglob("*") if path.is_file() and path.suffix != ".pyc")
    return {str(path.relative_to(PACKAGE / "src")) for path in files}


def test_the_wheel_holds_the_package_and_its_licence_and_nothing_else(built):
    [wheel] = built.glob("*.whl")
    names = {name for name in zipfile.ZipFile(wheel).namelist() if not name.endswith("/")}
    about = wheel.name.split("-py3")[0] + ".dist-info"
    assert names == source() | {f"{about}/{name}" for name in ("METADATA", "RECORD", "WHEEL", "licenses/LICENSE")}
    assert names >= {
        "drumline/py.typed",
        "drumline/migrations/0001_initial.py",
        "drumline/beat/migrations/0001_initial.py",
        "drumline/templates/drumline/discard.html",
        "drumline/beat/templates/drumline_beat/change_periodic_task.html",
        "drumline/beat/static/drumline_beat/crontab-in-words.js",
    }


def test_the_source_distribution_holds_what_builds_the_same_wheel_and_nothing_else(built):
    [archive] = built.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        names = {member.name.partition("/")[2] for member in opened if member.isfile()}
    # Where the build backend changes pyproject.toml, it keeps the original beside it.
    about = {"CHANGELOG.md", "LICENSE", "PKG-INFO", "README.md", "pyproject.toml", "pyproject.toml.orig"}
    assert names == {f"src/{name}" for name in source()} | about
