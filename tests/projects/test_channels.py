"""ASGI with channels, from settings that read the environment: websockets, private uploads, a daemon, a timer, a cache."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.support.foreign import ForeignProject, deployed
from tests.support.waiting import wait_until

EFFECTS = "/var/lib/drumline/effects"
ECHO = """
import asyncio, ssl, sys, websockets
async def ask():
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    async with websockets.connect(f"wss://{sys.argv[1]}/ws/echo/", ssl=context, origin=f"https://{sys.argv[1]}") as socket:
        await socket.send("hello")
        print(await socket.recv())
asyncio.run(ask())
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForeignProject]:
    with deployed("channels", tmp_path_factory.mktemp("channels"), variables={"app_ledger": True}) as project:
        yield project


def test_the_administrator_signs_in(project: ForeignProject) -> None:
    project.sign_in()


def test_a_websocket_stays_open_through_nginx(project: ForeignProject) -> None:
    python = "/opt/drumline/current/.venv/bin/python"
    assert project.on_host(python, "-c", ECHO, project.address).strip() == "echo hello"


def test_uploads_are_handed_out_by_the_application_alone(project: ForeignProject) -> None:
    project.on_host("sh", "-c", "umask 027; echo private >/var/lib/drumline-media/private.txt")

    assert "private" in project.client().get("/file/").text
    assert project.client().get("/media/private.txt").status_code == 404


def test_the_cache_is_a_redis_of_its_own(project: ForeignProject) -> None:
    assert project.client().get("/cached/").text == "by the cache"
    assert "6380" in project.on_host("ss", "--listening", "--tcp", "--numeric")


def test_a_daemon_and_a_timer_run_and_write_where_the_project_writes(project: ForeignProject) -> None:
    notes = "/var/lib/drumline/writable/notes"
    wait_until(lambda: project.succeeds("test", "-e", f"{notes}/tick"), "the daemon writes", seconds=30)
    wait_until(lambda: project.succeeds("test", "-e", f"{notes}/stamp"), "the timer writes", seconds=60)
    assert project.succeeds("systemctl", "is-active", "drumline-daemon-ticker.service", "drumline-timer-stamp.timer")


def test_the_schedule_is_drumlines_and_a_killed_workers_task_runs_again(project: ForeignProject) -> None:
    beats = json.loads(project.on_host("drumline-manage", "heartbeats", "beat", "--json"))
    assert beats[0]["name"] == "beat"
    project.send("rooms.tasks.hold", EFFECTS)
    wait_until(lambda: project.is_written(EFFECTS, "started"), "the task starts", seconds=60)
    project.kill_workers("celery")
    project.on_host("touch", f"{EFFECTS}.gate")

    wait_until(lambda: project.is_written(EFFECTS, "ended"), "it runs again and ends", seconds=120)
    assert project.dead_letters() == 0


def test_what_it_wrote_and_what_was_uploaded_stay_through_a_deploy(project: ForeignProject) -> None:
    urls = project.checkout / "chat/urls.py"
    urls.write_text(urls.read_text().replace("'by the cache'", "'by the second release'"))
    project.deploy_commit("Another text.")

    assert project.client().get("/cached/").text == "by the second release"
    assert "private" in project.client().get("/file/").text
    assert project.succeeds("test", "-e", "/opt/drumline/current/notes/stamp")


def test_without_the_ledger_it_runs_as_it_did_before(project: ForeignProject) -> None:
    project.set_up(app_ledger=False)

    assert not project.succeeds("systemctl", "is-active", "drumline-relay.service")
    project.sign_in()
