"""`make dev` on a copy of this checkout, from its start to Ctrl-C."""

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.application import Process
from tests.support.paths import PROJECT, PYTHON
from tests.support.waiting import wait_until

PATIENCE = 120


def fetched(url: str) -> str:
    """The page there; empty while nobody answers."""
    try:
        return httpx.get(url, timeout=30).text
    except httpx.TransportError:
        return ""


class Checkout:
    """A checkout that may be edited, on four ports of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for part in ("app", "drumline", "supervisor", "ansible/group_vars", "ansible/plugins"):
            shutil.copytree(PROJECT / part, folder / part)
        self.state = folder / "build/dev"
        self.port = wait_until(self._four_free_ports, "four free ports in a row")
        self.site = f"http://127.0.0.1:{self.port}"
        self.command = [PYTHON, str(folder / "supervisor/development.py"), str(self.port)]

    def _four_free_ports(self) -> int:
        # Below those that the system gives away by itself, to this test's neighbours for example.
        port = random.randrange(20000, 30000)
        return 0 if any(self._listens(port + number) for number in range(4)) else port

    def _listens(self, port: int) -> bool:
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", port)) == 0

    def sockets(self) -> list[int]:
        return [port for port in range(self.port, self.port + 4) if self._listens(port)]

    def processes(self) -> list[str]:
        """The command lines of everything that has this checkout in its environment."""
        found = []
        for environment in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if os.fsencode(self.state) in environment.read_bytes():
                    found.append((environment.parent / "cmdline").read_text().replace("\0", " "))
        return found

    def start(self) -> Process:
        return Process(self.command, dict(os.environ), self.folder, self.folder / "terminal.log")

    def edit(self, path: str, old: str, new: str) -> None:
        text = (self.folder / "app" / path).read_text()
        assert old in text
        (self.folder / "app" / path).write_text(text.replace(old, new))

    def ping(self, queues: str) -> list[dict[str, Any]]:
        """Send a task through each queue from another terminal, and return the reports on their ends."""
        command = f". build/dev/env && app/manage.py enqueue drumline.ping --queue {queues} --wait {PATIENCE}"
        done = subprocess.run(["sh", "-c", command], cwd=self.folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


@pytest.fixture
def checkout() -> Iterator[Checkout]:
    # Directly under /tmp: a socket's path is limited to about a hundred characters.
    with tempfile.TemporaryDirectory(prefix="drumline-dev-") as folder:
        yield Checkout(Path(folder))


@pytest.fixture
def terminal(checkout: Checkout) -> Iterator[Process]:
    terminal = checkout.start()
    yield terminal
    # It takes everything with it; a second signal is ignored.
    terminal.popen.terminate()
    terminal.popen.wait(PATIENCE)


def test_a_developer_starts_everything_changes_code_and_stops_everything(checkout, terminal):
    terminal.wait_for("Ready after", seconds=PATIENCE)
    assert "Drumline" in fetched(checkout.site)
    assert httpx.get(f"{checkout.site}/static/admin/css/base.css").status_code == 200
    flower = f"http://127.0.0.1:{checkout.port + 1}/flower/"
    assert httpx.get(f"{checkout.site}/flower/").headers["Location"] == flower
    wait_until(lambda: "Flower" in fetched(flower), "Flower answers", seconds=PATIENCE)

    second = subprocess.run(checkout.command, capture_output=True, text=True, check=False)
    assert second.returncode == 1
    assert f"already running in this checkout: {checkout.site}/" in second.stderr

    assert [report["queue"] for report in checkout.ping("high,default,low")] == ["high", "default", "low"]
    account = {"email": "ada@example.com", "password": "difference engine no. 2", "full_name": "Ada"}
    assert httpx.post(f"{checkout.site}/api/users/", json=account).status_code == 201
    terminal.wait_for("To: ada@example.com")

    checkout.edit("config/urls.py", "urlpatterns = [", "urlpatterns = (")
    terminal.wait_for("not restarted", seconds=PATIENCE)
    assert "Drumline" in fetched(checkout.site), "the old code goes on"

    checkout.edit("config/urls.py", "urlpatterns = (", "urlpatterns = [")
    checkout.edit("config/templates/home.html", "</body>", "Changed</body>")
    checkout.edit("config/celery.py", "import logging.config\n", "import logging.config, socket\n")
    checkout.edit(
        "config/celery.py", "env.settings_module()\n", "env.settings_module()\nsocket.gethostname = lambda: 'changed'\n"
    )
    wait_until(lambda: "Changed" in fetched(checkout.site), "the web process has the new template", seconds=PATIENCE)
    hosts = lambda: {report["result"]["host"] for report in checkout.ping("high,default,low")}  # noqa: E731
    wait_until(lambda: hosts() == {"changed"}, "every worker has the new code", seconds=PATIENCE)

    assert len(checkout.processes()) >= 10
    assert len(checkout.sockets()) == 4
    files = [checkout.state / "supervisor.sock", checkout.state / "supervisord.pid"]
    assert all(file.exists() for file in files)
    os.killpg(terminal.popen.pid, signal.SIGINT)
    assert terminal.popen.wait(PATIENCE) == 0, terminal.text()
    assert checkout.processes() == []
    assert checkout.sockets() == []
    assert not any(file.exists() for file in files)
