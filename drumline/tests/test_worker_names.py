"""One worker lives under a name: who waits, who takes over at once, and who does not start."""

import os
import subprocess
import uuid
from datetime import UTC, datetime
from pathlib import Path

import pytest

from drumline.models import Worker
from drumline.worker import identity
from drumline.worker.identity import NameTakenError, has_ended, this_process, wait_for_name

pytestmark = pytest.mark.django_db


@pytest.fixture
def clock(monkeypatch):
    """Time passes only while the worker waits; what happens meanwhile is a test's to say."""

    class Clock:
        seconds = 0.0
        meanwhile = staticmethod(lambda: None)

        def monotonic(self) -> float:
            return self.seconds

        def sleep(self, seconds: float) -> None:
            self.seconds += seconds
            self.meanwhile()

    clock = Clock()
    monkeypatch.setattr(identity, "time", clock)
    monkeypatch.setattr(identity.connection, "close", lambda: None)
    return clock


def former(**changes) -> Worker:
    now = datetime.now(UTC)
    fields = {"name": "low-1@host", "host": "host", "pid": 1, "started_at": now, "beat_at": now, "beats": 5}
    return Worker.objects.create(id=uuid.uuid4(), **{**fields, **changes})


def test_a_name_that_nobody_has_is_taken_at_once(clock):
    former(stopped_at=datetime.now(UTC))
    former(name="low-2@host")

    wait_for_name("low-1@host")

    assert clock.seconds == 0


def test_the_next_life_of_an_instance_takes_over_at_once_when_the_former_process_has_ended(clock):
    with subprocess.Popen(["sleep", "60"]) as sleeping:
        machine = this_process().split()[0]
        dead = former(process=f"{machine} {sleeping.pid} {identity._start(sleeping.pid)}")
        assert not has_ended(dead.process)
        sleeping.kill()

    wait_for_name("low-1@host")

    assert clock.seconds == 0
    dead.refresh_from_db()
    assert dead.stopped_at is not None


def test_a_worker_of_another_host_that_is_silent_is_waited_for_until_its_lease_is_over(clock, settings):
    settings.DRUMLINE_LEASE = 15
    silent = former(process="another-boot/pid:[1] 1 1")

    wait_for_name("low-1@host")

    assert 15 <= clock.seconds <= 16
    silent.refresh_from_db()
    assert silent.trouble == "silent for longer than its lease"


@pytest.mark.parametrize("where", ["here", "elsewhere"])
def test_the_second_of_one_name_does_not_start_while_the_first_gives_signs_of_life(clock, where):
    first = former(process=this_process() if where == "here" else "")
    clock.meanwhile = lambda: Worker.objects.update(beats=6)

    with pytest.raises(NameTakenError, match=r"low-1@host is alive on host as process 1\. .*another --hostname"):
        wait_for_name("low-1@host")

    first.refresh_from_db()
    assert first.stopped_at is None


def test_a_process_id_that_another_process_has_now_is_no_sign_of_life():
    machine, pid, start = this_process().split()

    assert not has_ended(f"{machine} {pid} {start}")
    assert has_ended(f"{machine} {pid} {int(start) - 1}")
    assert not has_ended(f"another-boot/pid:[1] {pid} {int(start) - 1}")
    assert not has_ended("")


def test_the_unit_says_which_boot_it_is_where_the_sandbox_hides_it(monkeypatch, tmp_path):
    monkeypatch.setattr(identity, "BOOT_ID", tmp_path / "hidden")
    monkeypatch.delenv("BOOT_ID", raising=False)
    assert this_process() == ""

    monkeypatch.setenv("BOOT_ID", "f" * 32)
    assert this_process().split()[:2] == [f"{'f' * 32}/{Path('/proc/self/ns/pid').readlink()}", str(os.getpid())]
