"""ASGI with channels, from settings that read the environment: websockets, private uploads, a daemon, a timer, a cache."""

import json

import pytest

from tests.support.foreign import ForeignProject
from tests.support.waiting import wait_until

EFFECTS = "/var/lib/drumline/effects"
ECHO = """
import asyncio, ssl, websockets
async def ask():
    context = ssl.create_default_context(cafile="/etc/drumline/tls/site.crt")
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    async with websockets.connect("wss://localhost/ws/echo/", ssl=context) as socket:
        await socket.send("hello")
        print(await socket.recv())
asyncio.run(ask())
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    project = ForeignProject("channels", tmp_path_factory.mktemp("channels"))
    project.playbook("site.yml", "verify.yml")
    yield project
    project.down()


def answer(project, path):
    return project.on_host("curl", "--silent", "--insecure", "--include", f"https://localhost{path}")


def test_a_websocket_stays_open_through_nginx(project):
    python = "/opt/drumline/current/.venv/bin/python"
    assert project.on_host(python, "-c", ECHO).strip() == "echo hello"


def test_uploads_are_handed_out_by_the_application_alone(project):
    project.on_host("sh", "-c", "umask 027; echo private >/var/lib/drumline-media/private.txt")

    assert "private" in answer(project, "/file/")
    assert " 404" in answer(project, "/media/private.txt").splitlines()[0]


def test_the_cache_is_a_redis_of_its_own(project):
    assert "by the cache" in answer(project, "/cached/")
    assert "6380" in project.on_host("ss", "--listening", "--tcp", "--numeric")


def test_a_daemon_and_a_timer_run_and_write_where_the_project_writes(project):
    notes = "/var/lib/drumline/writable/notes"
    wait_until(lambda: project.succeeds("test", "-e", f"{notes}/tick"), "the daemon writes", seconds=30)
    wait_until(lambda: project.succeeds("test", "-e", f"{notes}/stamp"), "the timer writes", seconds=60)
    assert project.succeeds("systemctl", "is-active", "drumline-daemon-ticker.service", "drumline-timer-stamp.timer")


def test_the_schedule_is_drumlines_and_a_killed_workers_task_runs_again(project):
    beats = json.loads(project.on_host("drumline-manage", "heartbeats", "beat", "--json"))
    assert beats[0]["name"] == "beat"
    project.send("rooms.tasks.hold", EFFECTS)
    wait_until(lambda: project.succeeds("grep", "-q", "started", EFFECTS), "the task starts", seconds=60)
    project.on_host("systemctl", "kill", "--signal=KILL", "drumline-worker@default-1", "drumline-worker@default-2")
    project.on_host("touch", f"{EFFECTS}.gate")

    wait_until(lambda: project.succeeds("grep", "-q", "ended", EFFECTS), "it runs again and ends", seconds=90)
