"""On Redis the message of a durable task only rings: what a worker has of it is known from the ledger, not from Redis."""

import json
import signal

import pytest

from tests.support.waiting import wait_until

WAITING = "SELECT count(*) FROM drumline_ledger WHERE state = 0"
LEFT = f"{WAITING} AND published_at IS NULL"


def send(application, folder, task: str, name: str) -> None:
    application.manage("enqueue", f"probe.{task}", json.dumps([str(folder), name]))


def test_redis_keeps_the_message_of_a_plain_task_that_runs_and_not_that_of_a_durable_one(application, broker, tmp_path):
    application.with_probe()
    worker = application.worker("default")
    plain = f"from probe.tasks import hold\nhold.apply_async(({str(tmp_path)!r}, 'plain'), durable=False)"
    for name, kept in (("durable", 0), ("plain", 1)):
        if name == "durable":
            send(application, tmp_path, "hold", name)
        else:
            application.manage("shell", "--no-imports", "-c", plain)
        wait_until((tmp_path / f"{name}.started").exists, f"the {name} task runs")

        assert broker.client.hlen("unacked") == kept, f"unacknowledged messages in Redis while the {name} task runs"
        (tmp_path / f"{name}.gate").touch()
        wait_until((tmp_path / f"{name}.effects").exists, f"the {name} task has ended")
    wait_until(lambda: not broker.client.hlen("unacked"), "the plain task is acknowledged")
    assert worker.alive()


@pytest.fixture
def reserving(application, broker, sql, tmp_path):
    """A worker that runs one task, and has reserved three; there is no relay yet."""
    application.with_probe()
    worker = application.worker("default", PROBE_PREFETCH="4")
    send(application, tmp_path, "hold", "first")
    wait_until((tmp_path / "first.started").exists, "the first task runs")
    names = ["second", "third", "fourth"]
    code = f"from probe.tasks import note\nfor name in {names!r}:\n    note.delay({str(tmp_path)!r}, name)"
    application.manage("shell", "--no-imports", "-c", code)
    wait_until(lambda: not broker.client.llen("default"), "the worker has reserved the others")
    assert sql(WAITING) == [(3,)]
    assert sql(LEFT) == [(0,)]

    def end() -> None:
        application.relay()
        (tmp_path / "first.gate").touch()
        wait_until(lambda: sql("SELECT DISTINCT state FROM drumline_ledger") == [(2,)], "every task has ended")
        assert all((tmp_path / f"{name}.effects").read_text() == "done\n" for name in names)

    return worker, end


def test_a_worker_that_drains_leaves_at_once_what_it_has_not_started(application, reserving, sql):
    worker, end = reserving
    worker.popen.terminate()

    wait_until(lambda: sql(LEFT) == [(3,)], "the relay is to publish what was reserved")
    assert worker.alive(), "it still runs the first one"
    application.worker("default", instance=2)
    end()
    assert worker.popen.wait(30) == 0


def test_what_a_killed_worker_had_reserved_is_known_from_its_heartbeat(application, reserving, sql):
    worker, end = reserving
    reserved = "SELECT id FROM drumline_worker WHERE stopped_at IS NULL AND json_array_length(reserved::json) = 4"
    wait_until(lambda: sql(reserved), "the heartbeat has written down what is reserved")
    worker.popen.send_signal(signal.SIGKILL)
    worker.popen.wait()

    application.worker("default")
    wait_until(lambda: sql(LEFT) == [(4,)], "the relay is to publish what was reserved, and what ran")
    end()


def test_a_worker_that_loses_redis_leaves_what_it_has_not_started(broker, reserving, sql):
    worker, end = reserving
    broker.kill()

    wait_until(lambda: sql(LEFT) == [(3,)], "the relay is to publish what was reserved")
    broker.start()
    end()
    assert worker.alive()
