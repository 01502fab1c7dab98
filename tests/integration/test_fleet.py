"""The processes of a fleet, as systemd starts them."""

import json
import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from django.conf import settings

from tests.support.application import WEB, Application
from tests.support.paths import BIN, PYTHON
from tests.support.ports import free_port
from tests.support.waiting import wait_until


class ServiceManager:
    """The socket on which systemd hears from a service."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "notify")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.socket.settimeout(0.1)
        self.heard: list[str] = []

    def hears(self, line: str) -> bool:
        try:
            while True:
                self.heard += self.socket.recv(4096).decode().splitlines()
        except TimeoutError:
            return any(heard.startswith(line) for heard in self.heard)


@pytest.fixture
def systemd(tmp_path):
    manager = ServiceManager(tmp_path)
    yield manager
    manager.socket.close()


def test_a_ping_through_each_queue_comes_back_from_its_own_worker(application):
    for queue in ("high", "default", "low"):
        application.worker(queue)

    reports = [application.enqueue("drumline.ping", "--queue", queue) for queue in ("high", "default", "low")]

    assert [report["result"]["queue"] for report in reports] == ["high", "default", "low"]
    assert {report["state"] for report in reports} == {"SUCCESS"}


def test_a_ping_into_a_queue_without_a_worker_fails_in_time(application):
    result = application.manage("enqueue", "drumline.ping", "--queue", "low", "--wait", "0.2", check=False)

    assert result.returncode == 1
    assert json.loads(result.stdout.splitlines()[-1])["state"] == "PENDING"
    assert "drumline.ping on low is PENDING" in result.stderr


def test_a_worker_is_ready_only_when_it_consumes_and_finishes_its_task_when_stopped(
    application, systemd, broker, tmp_path
):
    application.with_probe()
    worker = application.worker("default", NOTIFY_SOCKET=systemd.path)
    wait_until(lambda: systemd.hears("READY=1"), "READY=1")
    assert any(line.startswith("STATUS=default: 0 running") for line in systemd.heard)
    application.manage("enqueue", "probe.hold", json.dumps([str(tmp_path), "last"]))
    wait_until((tmp_path / "last.started").exists, "the task runs")

    worker.popen.terminate()
    wait_until(lambda: systemd.hears("STOPPING=1"), "STOPPING=1")
    (tmp_path / "last.gate").touch()

    assert worker.popen.wait(30) == 0
    assert (tmp_path / "last.effects").read_text() == "done\n"
    assert broker.client.hlen("unacked") == 0
    assert broker.client.llen("default") == 0


def test_beat_reports_to_systemd_and_the_database_and_sends_what_an_operator_scheduled(application, systemd, sql):
    application.worker("default")
    application.manage(
        "shell",
        "-c",
        """
from django_celery_beat.models import IntervalSchedule, PeriodicTask
second = IntervalSchedule.objects.create(every=1, period="seconds")
PeriodicTask.objects.create(name="operator's ping", task="drumline.ping", interval=second)
""",
    )

    beat = application.beat(NOTIFY_SOCKET=systemd.path)

    wait_until(lambda: systemd.hears("READY=1"), "READY=1")
    wait_until(lambda: systemd.hears("WATCHDOG=1"), "WATCHDOG=1")
    wait_until(
        lambda: sql("SELECT 1 FROM django_celery_results_taskresult WHERE status = 'SUCCESS'"), "the ping's result"
    )
    assert "beat on" in application.manage("heartbeats", "--max-age", "30").stdout
    names = {name for (name,) in sql("SELECT name FROM django_celery_beat_periodictask")}
    assert {"operator's ping", *settings.CELERY_BEAT_SCHEDULE} <= names
    beat.popen.terminate()
    wait_until(lambda: systemd.hears("STOPPING=1"), "STOPPING=1")


def test_beat_lives_through_a_database_restart(application, cluster, systemd):
    beat = application.beat(NOTIFY_SOCKET=systemd.path)
    wait_until(lambda: systemd.hears("READY=1"), "READY=1")
    at_work = next(line for line in systemd.heard if line.endswith(" entries"))

    cluster.stop()
    try:
        wait_until(lambda: systemd.hears("STATUS=waiting for the database"), "beat notices")
    finally:
        cluster.start()
    systemd.heard.clear()

    wait_until(lambda: systemd.hears(at_work), "beat goes on")
    assert beat.alive()


def test_the_web_process_serves_on_a_socket_that_it_inherits(application, tmp_path):
    listener = socket.socket(socket.AF_UNIX)
    path = str(tmp_path / "web.sock")
    listener.bind(path)
    listener.listen()
    os.set_inheritable(listener.fileno(), True)  # noqa: FBT003  it takes no keyword
    # What systemd does: the socket as descriptor 3, and the process's own number beside it.
    script = (
        "import os, sys; os.dup2(int(sys.argv[1]), 3); os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()));"
        " os.execv(sys.argv[2], sys.argv[2:])"
    )
    log = tmp_path / "web.log"

    with log.open("wb") as output:
        web = subprocess.Popen(
            [PYTHON, "-c", script, str(listener.fileno()), *WEB],
            cwd=application.cwd,
            env=application.env,
            stdout=output,
            stderr=output,
            pass_fds=[listener.fileno()],
            start_new_session=True,
        )
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(30)
            client.connect(path)
            client.sendall(b"GET /livez HTTP/1.0\r\nHost: localhost\r\n\r\n")
            assert b" 200 OK" in client.recv(4096), log.read_text()
    finally:
        web.terminate()
        web.wait(15)
        listener.close()


@pytest.mark.parametrize("path", ["/readyz", "/admin/"])
def test_no_visitor_waits_for_what_the_web_process_could_load_before(application, path):
    application.web("loading:application")

    first = application.get(path)
    loaded = first.headers["X-Loaded"].split()
    later = [name for name in loaded if name == "URLs" or ".migrations." in name or name.startswith(("redis", "kombu"))]
    assert first.status in (200, 302), first.body
    assert not later, f"the first request of {path} loaded {later}"


@pytest.mark.parametrize(
    "command",
    [
        (PYTHON, "manage.py", "check"),
        (*WEB, "--bind", "127.0.0.1:0"),
        (str(BIN / "celery"), "-A", "config", "worker"),
        (str(BIN / "celery"), "-A", "config", "beat"),
    ],
    ids=["a command", "the web process", "a worker", "beat"],
)
def test_a_missing_and_a_malformed_variable_stop_the_start_with_their_names(command, tmp_path):
    application = Application(
        tmp_path, {"DATABASE_URL": "", "EMAIL_PORT": "smtp", "CELERY_BROKER_URL": f"redis://127.0.0.1:{free_port()}/0"}
    )
    process = application.start(*command)
    try:
        code = process.popen.wait(30)
    finally:
        application.stop()

    assert code != 0
    assert "DATABASE_URL is missing" in process.text()
    assert "EMAIL_PORT is 'smtp', which is not a whole number (example: 587)" in process.text()


def test_a_malformed_web_variable_stops_the_web_process_with_its_name(tmp_path):
    application = Application(tmp_path, {"WEB_TIMEOUT": "soon"})
    process = application.start(*WEB)
    try:
        code = process.popen.wait(30)
    finally:
        application.stop()

    assert code != 0
    assert "WEB_TIMEOUT is 'soon', which is not a whole number of at least 1" in process.text()
    assert "Traceback" not in process.text()


def test_a_release_collects_its_static_files_under_names_that_never_change(tmp_path):
    release = tmp_path / "release"
    shutil.copytree(
        Application(tmp_path, {}).cwd, release, ignore=shutil.ignore_patterns("__pycache__", "static", "*.sqlite3")
    )
    application = Application(
        tmp_path, {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none", "CELERY_BROKER_URL": "redis://127.0.0.1:1/0"}
    )
    application.cwd = release

    application.manage("collectstatic", "--no-input")

    assert (release / "static" / "staticfiles.json").exists()
    assert list((release / "static" / "admin" / "css").glob("base.*.css"))
