"""The reason for the Celery version in pyproject.toml: a worker survives the loss of its broker."""

import json
import signal
import time
from pathlib import Path

from tests.support.waiting import wait_until


def hold(application, folder: Path, name: str) -> str:
    """Send a task that stays until its gate opens; return its id."""
    return application.manage("enqueue", "probe.hold", json.dumps([str(folder), name])).stdout.strip()


def hold_plain(application, folder: Path, name: str) -> None:
    """Send one without the ledger, whose message is kept in Redis until it is acknowledged."""
    code = f"from probe.tasks import hold\nhold.apply_async(({str(folder)!r}, {name!r}), durable=False)"
    application.manage("shell", "--no-imports", "-c", code)


def effects(folder: Path, name: str) -> list[str]:
    path = folder / f"{name}.effects"
    return path.read_text().splitlines() if path.exists() else []


def test_a_worker_that_loses_the_broker_during_a_task_lives_on(application, broker, tmp_path):
    application.with_probe()
    worker = application.worker("default")
    pid = worker.popen.pid
    hold(application, tmp_path, "first")
    wait_until((tmp_path / "first.started").exists, "the task runs")

    broker.kill()
    # Several failed attempts: some versions die while they reconnect, not when they lose the connection.
    worker.wait_for("Trying again in 4.00 seconds")
    broker.start()
    wait_until(lambda: worker.text().count("Connected to redis") > 1, "the worker is connected again", seconds=40)
    (tmp_path / "first.gate").touch()

    wait_until(lambda: effects(tmp_path, "first"), "the task has ended")
    report = application.enqueue("drumline.ping", "--queue", "default")
    assert report["state"] == "SUCCESS"
    assert effects(tmp_path, "first") == ["done"]
    assert worker.alive()
    assert worker.popen.pid == pid
    assert broker.client.llen("default") == 0


def test_a_worker_whose_acknowledgement_is_not_taken_gets_the_next_task(application, broker, tmp_path):
    application.with_probe()
    worker = application.worker("default")
    hold_plain(application, tmp_path, "first")
    wait_until((tmp_path / "first.started").exists, "the task runs")

    # For longer than the worker waits for an answer.
    broker.process.send_signal(signal.SIGSTOP)
    (tmp_path / "first.gate").touch()
    try:
        worker.wait_for("Timeout reading from socket")
    finally:
        broker.process.send_signal(signal.SIGCONT)

    assert application.enqueue("drumline.ping", "--queue", "default")["state"] == "SUCCESS"
    assert effects(tmp_path, "first") == ["done"]
    assert "worker_ends_itself" not in worker.text()
    assert worker.alive()


def test_a_worker_that_has_found_its_broker_again_is_not_taken_for_stuck(application, broker):
    application.with_probe()
    worker = application.worker("default", PROBE_STUCK="4")

    broker.kill()
    worker.wait_for("Trying again in 4.00 seconds")
    broker.start()
    wait_until(lambda: worker.text().count("Connected to redis") > 1, "the worker is connected again", seconds=40)
    connected = time.monotonic()

    wait_until(lambda: time.monotonic() - connected > 6, "it had time to be taken for stuck")
    assert worker.alive(), worker.text()
    assert application.enqueue("drumline.ping", "--queue", "default")["state"] == "SUCCESS"


def test_a_worker_whose_event_loop_stands_still_ends_itself(application):
    application.with_probe()
    worker = application.worker("default", PROBE_STUCK="4")
    application.manage("shell", "-c", "from celery import current_app\ncurrent_app.control.broadcast('stand_still')")

    assert worker.popen.wait(timeout=30) == 70
    assert "its event loop has been blocked" in worker.text()


def test_a_worker_that_loses_only_its_control_channel_goes_on_consuming(application, broker):
    worker = application.worker("default")
    connected = worker.text().count("Connected to redis")

    # What a restart of Redis does when the control channel's end is seen first.
    def control_channel() -> list[str]:
        return [client["id"] for client in broker.client.client_list() if int(client["sub"]) + int(client["psub"])]

    # A worker is ready a moment before its control channel has subscribed.
    for identity in wait_until(control_channel, "the worker has a control channel"):
        broker.client.client_kill_filter(_id=identity)

    wait_until(lambda: worker.text().count("Connected to redis") > connected, "the worker is connected again")
    assert application.enqueue("drumline.ping", "--queue", "default")["state"] == "SUCCESS"
    worker.popen.terminate()
    worker.popen.wait(timeout=20)


def test_a_worker_outlives_a_broker_that_refuses_to_write(application, broker, tmp_path):
    application.with_probe()
    worker = application.worker("default", PROBE_STUCK="4")
    pid = worker.popen.pid
    hold(application, tmp_path, "first")
    wait_until((tmp_path / "first.started").exists, "the task runs")

    # As it does with a full disk (MISCONF) or at its maxmemory (OOM): the connection stays, each write is an error.
    broker.client.config_set("min-replicas-to-write", 1)
    (tmp_path / "first.gate").touch()
    wait_until(lambda: effects(tmp_path, "first"), "the task has ended")
    worker.wait_for("NOREPLICAS")
    refused = time.monotonic()
    wait_until(lambda: time.monotonic() - refused > 6, "it had time to be taken for stuck")
    broker.client.config_set("min-replicas-to-write", 0)
    assert worker.text().count("Connection to broker lost") < 10, "the log is filled with attempts"

    assert application.enqueue("drumline.ping", "--queue", "default")["state"] == "SUCCESS"
    assert effects(tmp_path, "first") == ["done"]
    assert worker.alive()
    assert worker.popen.pid == pid
