"""A project that knows nothing of Drumline but a few lines of settings."""

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tests.support.application import Process
from tests.support.paths import BIN, PROJECT, PYTHON

# What Celery's own documentation has every Django project write.
CELERY = {
    "site1/__init__.py": "from .celery import app\n",
    "site1/celery.py": """
import os
from celery import Celery
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "site1.settings")
app = Celery("site1")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
""",
}
# A task that runs until a test opens its gate.
HOLD = """
@shared_task
def hold(path):
    with Path(path).open("a") as file:
        file.write("started\\n")
    while not Path(f"{path}.gate").exists():
        time.sleep(0.1)
    with Path(path).open("a") as file:
        file.write("ended\\n")
"""
JOBS = {
    "jobs/__init__.py": "",
    "jobs/tasks.py": """
import time
from pathlib import Path
from celery import shared_task

@shared_task
def write(path):
    Path(path).write_text("done")
"""
    + HOLD,
}


def add(folder: Path, name: str, files: Mapping[str, str], settings: str) -> None:
    """Write files into a project that `startproject` has made, and lines at the end of its settings."""
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    with (folder / name / "settings.py").open("a") as file:
        file.write(settings)


def start(checkout: Path, name: str, files: Mapping[str, str], settings: str, requirements: Iterable[str]) -> None:
    """Write the checkout of a project that was begun with `startproject`."""
    checkout.mkdir()
    subprocess.run([BIN / "django-admin", "startproject", name, checkout], check=True)
    add(checkout, name, files, settings)
    (checkout / "requirements.txt").write_text("".join(f"{line}\n" for line in requirements))


class FreshProject:
    """A project on SQLite, with the package `drumline` and nothing else of this repository on its path.

    `python` is that of an environment in which the package is installed; without one it is copied to the path.
    """

    def __init__(self, folder: Path, settings: str, files: Mapping[str, str], *, python: Path | None = None) -> None:
        self.folder = folder / "project"
        self.python = str(python or PYTHON)
        self.env = {"PATH": os.environ["PATH"], "HOME": str(folder)}
        if python is None:
            (folder / "lib").mkdir()
            shutil.copytree(PROJECT / "drumline" / "src" / "drumline", folder / "lib" / "drumline")
            self.env["PYTHONPATH"] = str(folder / "lib")
        self.processes: list[Process] = []
        self.folder.mkdir()
        subprocess.run(
            [self.python, "-m", "django", "startproject", "site1", str(self.folder)],
            env=self.env,
            check=True,
        )
        add(self.folder, "site1", {**CELERY, **files}, settings)
        self.manage("migrate", "--verbosity", "0")

    def manage(self, *args: str) -> str:
        result = subprocess.run(
            [self.python, "manage.py", *args],
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    def start(self, *args: str) -> Process:
        log = self.folder / f"{len(self.processes)}.log"
        process = Process(list(args), self.env, self.folder, log)
        self.processes.append(process)
        return process

    def relay(self) -> Process:
        return self.start(self.python, "manage.py", "relay")

    def celery(self, *args: str) -> Process:
        return self.start(self.python, "-m", "celery", "-A", "site1", *args)

    def rows(self, columns: str = "state, attempt") -> list[tuple[Any, ...]]:
        with sqlite3.connect(self.folder / "db.sqlite3", timeout=20) as database:
            return database.execute(f"SELECT {columns} FROM drumline_ledger ORDER BY created_at").fetchall()

    def stop(self) -> None:
        for process in self.processes:
            process.stop()
