"""drumline-drain lets a worker finish, then makes it put back, and never talks about one that is gone."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.support.paths import PROJECT

DRAIN = PROJECT / "systemd" / "drumline-drain"

# A stand-in for a worker: it tells which signals came, and ends on the one that it is given.
WORKER = """
import signal, sys, time
def told(number, frame):
    print(signal.Signals(number).name, flush=True)
    if signal.Signals(number).name == sys.argv[1]:
        sys.exit(0)
signal.signal(signal.SIGTERM, told)
signal.signal(signal.SIGQUIT, told)
print("ready", flush=True)
while True:
    time.sleep(60)
"""


@pytest.fixture
def worker(request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", WORKER, request.param]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        yield process
        process.kill()


def drain(pid: int, seconds: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([DRAIN, str(pid), seconds], capture_output=True, text=True, check=False, timeout=30)


def signals(worker: subprocess.Popen[str]) -> list[str]:
    return worker.communicate(timeout=5)[0].split()


def reaped_while(worker: subprocess.Popen[str], seconds: str) -> subprocess.CompletedProcess[str]:
    """Drain while the child is reaped as systemd would, since a zombie still has its PID."""
    with subprocess.Popen([DRAIN, str(worker.pid), seconds], stdout=subprocess.PIPE, text=True) as draining:
        worker.wait(timeout=20)
        output = draining.communicate(timeout=20)[0]
    return subprocess.CompletedProcess([], draining.returncode, output)


@pytest.mark.parametrize("worker", ["SIGTERM"], indirect=True)
def test_a_worker_that_finishes_is_only_asked_once(worker: subprocess.Popen[str]) -> None:
    drained = reaped_while(worker, "20")

    assert drained.returncode == 0
    assert drained.stdout == ""
    assert signals(worker) == ["SIGTERM"]


@pytest.mark.parametrize("worker", ["SIGQUIT"], indirect=True)
def test_a_worker_that_does_not_finish_in_time_puts_back_its_tasks(worker: subprocess.Popen[str]) -> None:
    drained = reaped_while(worker, "1")

    assert "still at work after 1 s" in drained.stdout
    assert signals(worker) == ["SIGTERM", "SIGQUIT"]


@pytest.mark.parametrize("worker", ["SIGTERM"], indirect=True)
def test_a_worker_that_is_gone_is_not_talked_about(worker: subprocess.Popen[str]) -> None:
    worker.send_signal(signal.SIGKILL)
    worker.wait(timeout=5)

    drained = drain(worker.pid, "20")

    assert (drained.returncode, drained.stdout, drained.stderr) == (0, "", "")
