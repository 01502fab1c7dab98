"""Supervisor's programs are brought to run what is on the disk, wave by wave, and otherwise left alone."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.paths import ANSIBLE, PROJECT
from tests.support.waiting import wait_until

_spec = importlib.util.spec_from_file_location("program_set", ANSIBLE / "plugins" / "modules" / "program_set.py")
assert _spec
assert _spec.loader
program_set = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(program_set)

HOUR = 3600
WAVES = [["worker-high-1"], ["worker-high-2"], ["web:web-0"], ["web:web-1"]]
NAMES = [name for wave in WAVES for name in wave]

# Writes down when it begins and when it is told to end, and takes its time for either.
COMMAND = r"""
import os, signal, socket, sys, time
def note(what):
    with open("events", "a") as events:
        events.write(f"{os.environ['SUPERVISOR_PROCESS_NAME']} {what}\n")
def end(number, frame):
    time.sleep(0.2)
    note("ended")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
note("began")
if os.path.exists("broken"):
    print("it is broken", flush=True)
    sys.exit(1)
time.sleep(0.2)
note("ready")
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
    manager.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
while True:
    time.sleep(60)
"""
CONFIGURATION = """
[unix_http_server]
file={here}/supervisor.sock
[supervisord]
nodaemon=true
logfile=/dev/null
logfile_maxbytes=0
pidfile={here}/supervisord.pid
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
"""
PROGRAM = """
[{kind}:{name}]
command={here}/drumline-run --env={here}/{name}.env --ready-within=20 {options} -- {python} {here}/command.py
directory={here}/current
autorestart=true
startsecs=0
redirect_stderr=true
stdout_logfile={here}/{name}.log
killasgroup=true
"""
SOCKET = """
socket=unix://{here}/web.sock
numprocs=2
process_name=%(program_name)s-%(process_num)d
"""


class Supervisor:
    """A supervisord with a few programs, and the module run against it as a playbook does."""

    def __init__(self, here: Path) -> None:
        self.here = here
        self.release = here / "release"
        shutil.copy(PROJECT / "supervisor" / "drumline-run", here)
        (here / "command.py").write_text(COMMAND)
        self.release.mkdir()
        (here / "current").symlink_to("release")
        self.configure("worker-high-1", "worker-high-2", "web")
        self.age()

    def configure(self, *names: str, options: str = "") -> None:
        text = CONFIGURATION.format(here=self.here)
        for name in names:
            if not (self.here / f"{name}.env").exists():
                (self.here / f"{name}.env").touch()
            web = name == "web"
            text += PROGRAM.format(
                kind="fcgi-program" if web else "program",
                name=name,
                here=self.here,
                python=sys.executable,
                options="--listen=%(process_num)d" if web else options,
            )
            text += SOCKET.format(here=self.here) if web else ""
        (self.here / "supervisor.conf").write_text(text)

    def age(self) -> None:
        """Make every file an hour old."""
        moment = time.time() - HOUR
        for path in self.here.iterdir():
            os.utime(path, (moment, moment), follow_symlinks=False)

    def run(self, waves: list[list[str]] = WAVES, *, check_mode: bool = False) -> dict[str, Any]:
        told: dict[str, Any] = program_set.bring(waves, f"{self.here}/supervisor.sock", 20, check_mode=check_mode)
        return told

    def events(self) -> list[str]:
        """What the programs have written down since the last look."""
        file = self.release / "events"
        written = file.read_text().splitlines() if file.exists() else []
        file.unlink(missing_ok=True)
        return written


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    """Every program runs and is ready."""
    made = Supervisor(tmp_path)
    command = [sys.executable, "-m", "supervisor.supervisord", f"--configuration={tmp_path}/supervisor.conf"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        made.run()
        made.events()
        yield made
        # All at once, which supervisord alone does not do.
        made.configure()
        made.run([])
        process.terminate()


def test_what_runs_what_is_on_the_disk_is_left_alone(supervisor: Supervisor) -> None:
    assert supervisor.run()["changed"] is False
    assert supervisor.events() == []


@pytest.mark.parametrize(
    ("file", "restarted"),
    [
        ("worker-high-2.env", ["worker-high-2"]),
        ("current", NAMES),
        ("drumline-run", NAMES),
    ],
)
def test_what_runs_something_older_is_restarted(supervisor: Supervisor, file: str, restarted: list[str]) -> None:
    os.utime(supervisor.here / file, follow_symlinks=False)

    assert supervisor.run()["restarted"] == restarted
    assert supervisor.run()["changed"] is False


def test_a_wave_begins_when_the_one_before_is_ready(supervisor: Supervisor) -> None:
    os.utime(supervisor.here / "current", follow_symlinks=False)

    supervisor.run(WAVES[:2])

    assert supervisor.events() == [
        f"worker-high-{number} {what}" for number in (1, 2) for what in ("ended", "began", "ready")
    ]


def test_the_processes_of_one_wave_stop_and_start_together(supervisor: Supervisor) -> None:
    os.utime(supervisor.here / "current", follow_symlinks=False)

    supervisor.run([["worker-high-1", "worker-high-2"]])

    happened = [event.split()[1] for event in supervisor.events()]
    assert happened[:2] == ["ended", "ended"]
    assert sorted(happened[2:]) == ["began", "began", "ready", "ready"]


def test_who_has_called_waits_while_the_processes_of_the_web_restart_one_after_the_other(
    supervisor: Supervisor,
) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(supervisor.here / "web.sock"))
        os.utime(supervisor.here / "current", follow_symlinks=False)

        assert supervisor.run()["restarted"] == NAMES

        # A socket that was closed would have hung up.
        client.setblocking(False)  # noqa: FBT003  the method has no name for it
        with pytest.raises(BlockingIOError):
            client.recv(1)


def test_a_changed_configuration_restarts_its_programs_alone(supervisor: Supervisor) -> None:
    supervisor.configure("worker-high-1", "worker-high-2", "web", options="--watchdog=600")

    assert supervisor.run()["restarted"] == ["worker-high-1", "worker-high-2"]
    assert supervisor.run()["changed"] is False


def test_a_program_that_is_new_is_started_and_one_that_is_gone_is_stopped(supervisor: Supervisor) -> None:
    supervisor.configure("worker-high-1", "worker-low-1")

    told = supervisor.run([["worker-high-1", "worker-low-1"]])

    assert told["restarted"] == ["worker-low-1"]
    assert sorted(told["stopped"]) == ["web", "worker-high-2"]
    assert "worker-high-2 ended" in supervisor.events()
    assert supervisor.run([["worker-high-1", "worker-low-1"]])["changed"] is False


def test_a_dry_run_tells_what_would_be_and_touches_nothing(supervisor: Supervisor) -> None:
    supervisor.configure("worker-high-1", options="--watchdog=600")

    told = supervisor.run([["worker-high-1"]], check_mode=True)

    assert (told["restarted"], sorted(told["stopped"])) == (["worker-high-1"], ["web", "worker-high-2"])
    assert supervisor.events() == []


def test_a_program_that_does_not_start_ends_the_run_with_its_log_and_the_next_wave_is_spared(
    supervisor: Supervisor,
) -> None:
    (supervisor.release / "broken").touch()
    os.utime(supervisor.here / "current", follow_symlinks=False)

    with pytest.raises(program_set.ProgramError, match=r"worker-high-1 ended before it was ready[^$]*it is broken"):
        supervisor.run()

    assert not any(event.startswith("worker-high-2") for event in supervisor.events())
    (supervisor.release / "broken").unlink()
    # supervisord starts it again by itself; one that had begun before is still broken, and would end the next run as well.
    wait_until(
        lambda: "worker-high-1 ready" in supervisor.events(), "supervisord has started what is not broken any more"
    )
    assert "worker-high-2" in supervisor.run()["restarted"]


def test_a_configuration_that_supervisor_does_not_take_is_refused_with_its_reason(supervisor: Supervisor) -> None:
    (supervisor.here / "supervisor.conf").write_text("[program:x]\n")

    with pytest.raises(program_set.ProgramError, match="supervisord rejects its configuration"):
        supervisor.run()


def test_a_dry_run_on_a_host_without_supervisor_says_that_all_is_new(tmp_path: Path) -> None:
    told = Supervisor(tmp_path).run(check_mode=True)

    assert (told["changed"], told["restarted"]) == (True, NAMES)
