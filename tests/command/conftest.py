"""Projects to look at, and the command line as a user calls it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

import pytest

from drumline_cli.cli import main

# Celery's "First steps with Django", its queues named as people name theirs.
FIRST_STEPS = {
    "manage.py": """
        import os
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "proj.settings")
    """,
    "proj/__init__.py": "",
    "proj/settings.py": """
        import os
        DEBUG = False
        ROOT_URLCONF = "proj.urls"
        WSGI_APPLICATION = "proj.wsgi.application"
        INSTALLED_APPS = ["django.contrib.admin", "demoapp"]
        STATIC_ROOT = "static"
        CELERY_TASK_ROUTES = {"demoapp.tasks.mul": {"queue": "HIGH-priority"}, "demoapp.tasks.*": "Celery"}
        DATABASES = {"default": {"NAME": os.environ["DB_NAME"]}}
    """,
    "proj/urls.py": """
        from django.urls import path
        urlpatterns = [path("healthz/", lambda request: None)]
    """,
    "proj/wsgi.py": "application = None",
    "proj/celery.py": """
        import os
        from celery import Celery
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "proj.settings")
        app = Celery("proj")
        app.config_from_object("django.conf:settings", namespace="CELERY")
    """,
    "demoapp/tasks.py": """
        from celery import shared_task

        @shared_task(queue="reports", soft_time_limit=600, time_limit=900)
        def report(): ...

        @shared_task
        def add(x, y):
            add.apply_async((x, y), queue="late")
    """,
    "requirements.txt": "django==5.2.0\ncelery[redis]==5.7.0\n",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call of `drumline` printed, and how it ended."""

    code: int
    out: str
    err: str


Drumline = Callable[..., Answer]


@pytest.fixture
def drumline(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Drumline:
    """The command line. An exception of any kind but the exit is a traceback that a user would see."""

    def call(*arguments: str) -> Answer:
        monkeypatch.setattr(sys, "argv", ["drumline", *arguments])
        capfd.readouterr()
        with pytest.raises(SystemExit) as exited:
            main()
        printed = capfd.readouterr()
        code = exited.value.code
        return Answer(code if isinstance(code, int) else 1, printed.out, printed.err)

    return call


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A checkout of First steps, with a commit, as the working folder."""
    checkout = tmp_path / "shop"
    write(checkout, FIRST_STEPS)
    commit(checkout)
    monkeypatch.chdir(checkout)
    monkeypatch.delenv("ANSIBLE_VAULT_PASSWORD_FILE", raising=False)
    return checkout


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same checkout with its deploy/, made once."""
    checkout = tmp_path_factory.mktemp("made") / "shop"
    write(checkout, FIRST_STEPS)
    commit(checkout)
    subprocess.run(
        [sys.executable, "-m", "drumline_cli", "init", "--yes", "--host=127.0.0.1", f"--project={checkout}"],
        check=True,
        capture_output=True,
    )
    return checkout


@pytest.fixture
def deployable(made_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with its deploy/, as the working folder."""
    checkout = tmp_path / "shop"
    shutil.copytree(made_once, checkout)
    monkeypatch.chdir(checkout)
    monkeypatch.delenv("ANSIBLE_VAULT_PASSWORD_FILE", raising=False)
    return checkout


def write(folder: Path, files: dict[str, str]) -> None:
    """Write files, their text without its indentation."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(dedent(text).lstrip("\n"))


def commit(folder: Path) -> None:
    """Make a folder a git checkout with one commit."""
    identity = {f"GIT_{who}_{what}": "a@example.com" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    for arguments in (
        ["init", "--quiet", "--initial-branch=main"],
        ["add", "."],
        ["commit", "--quiet", "--message=Begin."],
    ):
        subprocess.run(["git", *arguments], cwd=folder, check=True, env=os.environ | identity)
