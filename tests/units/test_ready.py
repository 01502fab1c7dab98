"""The web says READY once a worker process has imported the application, and never for one that cannot be imported."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import PROJECT

GUNICORN = Path(sys.executable).with_name("gunicorn")
CONFIGURATION = "python:drumline.hosting.gunicorn"
WEB = {
    "WEB_CONCURRENCY": "1",
    "WEB_THREADS": "1",
    "WEB_TIMEOUT": "30",
    "WEB_GRACEFUL_TIMEOUT": "1",
}

IMPORTS = """
import sys
print("importing", flush=True)
sys.stdin.readline()
def application(environ, start_response):
    start_response("200 OK", [])
    return [b""]
"""


class Web:
    """gunicorn with the configuration that a host has, and what it tells its service manager."""

    def __init__(self, folder: Path, application: str) -> None:
        (folder / "served.py").write_text(application)
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.manager.bind(str(folder / "notify"))
        self.manager.settimeout(30)
        environment = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
        self.process = subprocess.Popen(
            [str(GUNICORN), f"--config={CONFIGURATION}", f"--bind=unix:{folder}/web.sock", "served:application"],
            cwd=PROJECT / "app",
            env=environment | WEB | {"NOTIFY_SOCKET": str(folder / "notify"), "PYTHONPATH": str(folder)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def said(self, *, wait: bool) -> str:
        self.manager.settimeout(30 if wait else 0)
        try:
            return self.manager.recv(4096).decode()
        except BlockingIOError:
            return ""

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()
        self.manager.close()


def test_it_is_ready_when_a_worker_process_has_imported_the_application_and_not_before(tmp_path: Path) -> None:
    web = Web(tmp_path, IMPORTS)
    try:
        assert web.process.stdout
        assert web.process.stdin
        assert any("importing" in line for line in iter(web.process.stdout.readline, "")), "the import never began"
        before = web.said(wait=False)
        web.process.stdin.write("go on\n")
        web.process.stdin.flush()

        assert "READY=1" in web.said(wait=True)
        assert before == "", "READY came while the application was not there yet"
    finally:
        web.end()


# URLs are loaded before anybody asks for one.
NO_URLS = """
from django.conf import settings
settings.configure(ROOT_URLCONF="no_such_urls")
application = print
"""


@pytest.mark.parametrize("fault", ["import no_such_module", "raise RuntimeError('no')", "def broken(", NO_URLS])
def test_a_release_that_cannot_be_imported_is_never_ready(tmp_path: Path, fault: str) -> None:
    web = Web(tmp_path, fault)
    try:
        printed = web.process.communicate(timeout=30)[0]
        assert web.process.returncode != 0
        assert "Booting worker" in printed
        assert web.said(wait=False) == ""
    finally:
        web.end()
