"""drumline-run does for a program under supervisor what systemd does for its unit."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.paths import PROJECT
from tests.support.waiting import wait_until

# Says that it is ready and lives, tells its signals, and ends on the one that it is given.
COMMAND = r"""
import os, signal, socket, sys, time
def told(number, frame):
    os.write(1, signal.Signals(number).name.encode() + b"\n")
    if signal.Signals(number).name == sys.argv[1]:
        sys.exit(3)
for number in (signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP):
    signal.signal(number, told)
manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
manager.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
os.write(1, b"started\n")
while True:
    time.sleep(0.1)
    if "silent" not in sys.argv:
        manager.sendto(b"WATCHDOG=1", os.environ["NOTIFY_SOCKET"])
"""

Run = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The two programs side by side, as on a host, and supervisor's folder."""
    for source in (PROJECT / "supervisor" / "drumline-run", PROJECT / "systemd" / "drumline-drain"):
        shutil.copy(source, tmp_path)
    return tmp_path


@pytest.fixture
def run(folder: Path) -> Iterator[Run]:
    """Start drumline-run as supervisor does: leader of a process group, told its name."""
    environment = {
        "PATH": os.environ["PATH"],
        "SUPERVISOR_SERVER_URL": f"unix://{folder}/supervisor.sock",
        "SUPERVISOR_GROUP_NAME": "worker-high-1",
        "SUPERVISOR_PROCESS_NAME": "worker-high-1",
    }
    with contextlib.ExitStack() as stack:

        def start(*arguments: str, stdin: int = subprocess.DEVNULL, **variables: str) -> subprocess.Popen[str]:
            process = stack.enter_context(
                subprocess.Popen(
                    [str(folder / "drumline-run"), *arguments],
                    env=environment | variables,
                    stdin=stdin,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    process_group=0,
                )
            )
            stack.callback(killed, process)
            return process

        yield start


def killed(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def python(source: str, *arguments: str) -> list[str]:
    return ["--", sys.executable, "-c", source, *arguments]


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline().strip()


def rest(process: subprocess.Popen[str]) -> str:
    return process.communicate(timeout=20)[0]


def ready(folder: Path) -> str:
    """The process that has said so."""
    file = folder / "worker-high-1:worker-high-1.ready"
    return file.read_text() if file.exists() else ""


def alive(pid: int) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return False


def test_the_command_has_the_variables_of_the_files_and_no_one_else_sees_them(folder: Path, run: Run) -> None:
    secret = 'a "quoted" $HOME `id` \\ and # that'
    (folder / "plain.env").write_text("# It's a comment.\nQUEUE=high\n")
    (folder / "secret.env").write_text('SECRET="{}"\n'.format(secret.replace("\\", "\\\\").replace('"', '\\"')))
    command = python("import os; print(os.environ['QUEUE'], os.environ['SECRET'], flush=True); input()")

    process = run(f"--env={folder}/plain.env", f"--env={folder}/secret.env", *command, stdin=subprocess.PIPE)

    assert first_line(process) == f"high {secret}"
    commands = [
        Path(entry, "cmdline").read_bytes()
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and (entry / "cmdline").exists()
    ]
    assert not any(b'"quoted"' in line for line in commands)


def test_it_ends_as_its_command_ended(run: Run) -> None:
    process = run(*python("raise SystemExit(7)"))

    assert process.wait(timeout=20) == 7


def test_a_command_that_is_not_there_is_named(run: Run) -> None:
    process = run("--", "/nowhere/celery")

    assert "/nowhere/celery does not start" in rest(process)
    assert process.returncode == 127


def test_what_becomes_the_command_leaves_nothing_between(run: Run) -> None:
    process = run("--exec", *python("import os; print(os.getpid())"))

    assert rest(process).strip() == str(process.pid)


def test_a_relative_file_is_that_of_the_release_whose_command_it_starts(folder: Path, run: Run) -> None:
    program = folder / "first/.venv/bin/show"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\nexec echo $RELEASE\n")
    program.chmod(0o755)
    (folder / "first/app.env").write_text("RELEASE=first\n")
    (folder / "current").symlink_to("first")

    assert rest(run("--env=app.env", "--", f"{folder}/current/.venv/bin/show")).strip() == "first"


def test_a_command_runs_in_the_release_that_was_current_when_it_started(folder: Path, run: Run) -> None:
    (folder / "first").mkdir()
    (folder / "first" / "show").write_text("#!/bin/sh\necho $0\n")
    (folder / "first" / "show").chmod(0o755)
    (folder / "current").symlink_to("first")

    assert rest(run("--", f"{folder}/current/show")).strip() == f"{folder}/first/show"


def test_a_worker_that_finishes_is_asked_once_and_its_end_is_the_end(run: Run) -> None:
    process = run("--ready-within=20", "--drain=20", *python(COMMAND, "SIGTERM"))
    first_line(process)

    process.terminate()

    assert rest(process).split() == ["SIGTERM"]
    assert process.returncode == 3


def test_a_worker_that_does_not_finish_in_time_puts_back_its_tasks(run: Run) -> None:
    process = run("--ready-within=20", "--drain=1", *python(COMMAND, "SIGQUIT"))
    first_line(process)

    process.terminate()

    told = rest(process)
    assert [line for line in told.splitlines() if line.startswith("SIG")] == ["SIGTERM", "SIGQUIT"]
    assert "still at work after 1 s" in told
    assert process.returncode == 3


def test_other_signals_reach_the_command_and_nothing_else_follows(run: Run) -> None:
    process = run("--ready-within=20", "--drain=20", *python(COMMAND, "SIGTERM"))
    first_line(process)

    process.send_signal(signal.SIGHUP)

    assert first_line(process) == "SIGHUP"
    assert process.poll() is None


def test_ready_is_said_when_the_command_says_it(folder: Path, run: Run) -> None:
    process = run("--ready-within=20", *python(COMMAND, "SIGTERM"))
    first_line(process)

    wait_until(lambda: ready(folder) == str(process.pid), "ready was never said")


def test_a_command_that_does_not_become_ready_is_ended(run: Run) -> None:
    process = run("--ready-within=1", *python("import time; time.sleep(60)"))

    assert "it was not ready within 1 s" in rest(process)
    assert process.returncode == 128 + signal.SIGKILL


def test_a_command_that_gives_no_sign_of_life_any_more_is_ended(run: Run) -> None:
    process = run("--ready-within=20", "--watchdog=1", *python(COMMAND, "SIGTERM", "silent"))
    first_line(process)

    assert "it sent no watchdog ping for 1 s" in rest(process)


def test_a_command_that_gives_signs_of_life_is_left_alone(run: Run) -> None:
    process = run("--ready-within=20", "--watchdog=1", *python(COMMAND, "SIGTERM"))
    first_line(process)

    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=2.5)


FORKS = """
import os, time
child = os.fork()
if child:
    print(os.getpid(), child, flush=True)
time.sleep(600)
"""


def test_the_children_of_a_command_that_was_killed_end_with_it(run: Run) -> None:
    process = run(*python(FORKS))
    command, child = map(int, first_line(process).split())

    os.kill(command, signal.SIGKILL)

    assert process.wait(timeout=20) == 128 + signal.SIGKILL
    assert not alive(child)


def test_a_new_life_begins_when_nothing_of_the_former_one_is_left(run: Run) -> None:
    former = run(*python(FORKS))
    command, child = map(int, first_line(former).split())
    former.kill()
    former.wait(timeout=20)
    assert alive(command)
    assert alive(child)

    process = run(*python("import sys; print('begun', flush=True)"))

    assert first_line(process) == "begun"
    assert not alive(command)
    assert not alive(child)


def test_another_program_is_none_of_its_business(run: Run) -> None:
    other = run(*python(FORKS), SUPERVISOR_PROCESS_NAME="worker-high-2")
    first_line(other)

    assert run(*python("pass")).wait(timeout=20) == 0
    assert other.poll() is None


HOG = """
import os, sys, time
child = os.fork()
if child == 0:
    hoard = bytearray(200 * 2**20)
    time.sleep(600)
print(child, flush=True)
print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
time.sleep(600)
"""


def test_the_largest_process_of_too_many_megabytes_is_killed_and_its_parent_goes_on(run: Run) -> None:
    process = run("--memory-mb=100", *python(HOG))
    hog = first_line(process)

    assert first_line(process).startswith(f"drumline-run: killed {hog}: it has ")
    assert first_line(process) == str(-signal.SIGKILL)
    assert process.poll() is None


def test_memory_that_processes_share_is_counted_once(run: Run) -> None:
    shared = """
import os, time
hoard = bytearray(b"1") * (60 * 2**20)
for _ in range(3):
    if os.fork() == 0:
        time.sleep(600)
print("forked", flush=True)
time.sleep(600)
"""
    process = run("--memory-mb=100", *python(shared))
    assert first_line(process) == "forked"

    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=2.5)


def test_a_command_gives_way_as_far_as_it_is_told(run: Run) -> None:
    assert rest(run("--nice=6", *python("import os; print(os.nice(0))"))).strip() == "6"


SERVER = """
import os, socket
assert os.environ["LISTEN_PID"] == str(os.getpid())
assert os.environ["LISTEN_FDS"] == "1"
listening = socket.socket(fileno=3)
print("listening", flush=True)
connection, _ = listening.accept()
connection.sendall(b"hello")
"""


def test_a_command_gets_the_listening_socket_as_systemd_hands_it_over(folder: Path, run: Run) -> None:
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as client:
        listening.bind(str(folder / "web.sock"))
        listening.listen()
        process = run("--listen=1", *python(SERVER), stdin=listening.fileno())
        assert first_line(process) == "listening"

        client.connect(str(folder / "web.sock"))

        assert client.recv(5) == b"hello"


def test_the_first_member_only_holds_the_socket(folder: Path, run: Run) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        process = run("--listen=0", *python("print('started')"), stdin=listening.fileno())
        wait_until(lambda: ready(folder) == str(process.pid), "ready was never said")

        process.terminate()

        assert rest(process) == ""
        assert process.returncode == -signal.SIGTERM
