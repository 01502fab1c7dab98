"""A worker's life and the deaths in it: what the ledger makes of each."""

import os
import signal
from pathlib import Path

import pytest

from tests.support.waiting import wait_until


@pytest.fixture
def fleet(application):
    """A relay, and the project with its probe."""
    application.with_probe()
    application.relay()
    return application


def hold(application, folder, name: str) -> None:
    application.manage(
        "shell", "--no-imports", "-c", f"from probe.tasks import *\nhold.delay({str(folder)!r}, {name!r})"
    )


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def row(sql) -> tuple[int, int]:
    return sql("SELECT state, attempt FROM drumline_ledger")[0]


def test_a_worker_has_a_row_that_beats_and_ends_with_it(fleet, sql):
    worker = fleet.worker("default")

    wait_until(lambda: sql("SELECT 1 FROM drumline_worker WHERE beats > 1 AND stopped_at IS NULL"), "it beats")
    worker.popen.terminate()
    worker.popen.wait(timeout=30)

    assert sql("SELECT stopped_at IS NOT NULL FROM drumline_worker") == [(True,)]


def test_a_task_whose_process_is_killed_runs_again_and_is_a_dead_letter_after_its_last_attempt(fleet, sql, tmp_path):
    worker = fleet.worker("default")
    hold(fleet, tmp_path, "poison")

    for attempt in (1, 2, 3):
        wait_until(lambda attempt=attempt: row(sql) == (1, attempt), f"attempt {attempt} runs")
        for child in children(worker.popen.pid):
            os.kill(child, signal.SIGKILL)
    wait_until(lambda: row(sql) == (3, 3), "it is a dead letter")

    assert worker.alive()
    assert fleet.enqueue("drumline.ping", "--queue", "default")["state"] == "SUCCESS"


def test_a_worker_that_is_killed_and_started_again_takes_its_tasks_back_at_once(fleet, sql, tmp_path):
    worker = fleet.worker("default")
    hold(fleet, tmp_path, "held")
    wait_until(lambda: row(sql) == (1, 1), "it runs")
    wait_until(lambda: sql("SELECT 1 FROM drumline_worker"), "the worker is known")

    os.kill(worker.popen.pid, signal.SIGKILL)
    worker.popen.wait()
    fleet.worker("default")

    wait_until(lambda: row(sql) == (1, 2), "it runs again", seconds=8)


def test_a_second_worker_of_one_name_does_not_start_and_the_first_runs_on(fleet, sql, tmp_path):
    first = fleet.worker("default")
    hold(fleet, tmp_path, "held")
    wait_until(lambda: row(sql) == (1, 1), "it runs")

    second = fleet.worker("default", ready=False)

    assert second.popen.wait(timeout=40) == 1
    assert "Not started: the worker default-1@" in second.text()
    assert f"as process {first.popen.pid}" in second.text()
    assert first.alive()
    assert row(sql) == (1, 1)
    (tmp_path / "held.gate").touch()
    wait_until(lambda: row(sql) == (2, 1), "the first one has ended it")


def test_a_task_of_a_worker_that_stays_dead_runs_elsewhere_after_the_lease(fleet, sql, tmp_path):
    worker = fleet.worker("default")
    hold(fleet, tmp_path, "held")
    wait_until(lambda: row(sql) == (1, 1), "it runs")

    os.kill(worker.popen.pid, signal.SIGKILL)
    worker.popen.wait()
    fleet.worker("default,low")

    wait_until(lambda: row(sql) == (1, 2), "it runs again", seconds=30)


def test_a_cold_stop_puts_a_running_task_back_and_costs_it_no_attempt(fleet, sql, tmp_path):
    worker = fleet.worker("default")
    hold(fleet, tmp_path, "held")
    wait_until(lambda: row(sql) == (1, 1), "it runs")

    worker.popen.terminate()
    worker.popen.send_signal(signal.SIGQUIT)
    worker.popen.wait(timeout=15)

    wait_until(lambda: row(sql) == (0, 1), "it is queued again")
    assert sql("SELECT max_attempts FROM drumline_ledger") == [(4,)]


def test_a_worker_that_stops_waits_for_each_of_its_processes_to_end_its_task(fleet, sql, tmp_path):
    worker = fleet.worker("default", concurrency=2)
    for name in ("short", "long"):
        hold(fleet, tmp_path, name)
    wait_until(lambda: sql("SELECT state FROM drumline_ledger") == [(1,), (1,)], "both run")

    worker.popen.terminate()
    (tmp_path / "short.gate").touch()
    wait_until(lambda: sorted(sql("SELECT state FROM drumline_ledger")) == [(1,), (2,)], "one has ended")
    assert worker.alive()
    (tmp_path / "long.gate").touch()

    assert worker.popen.wait(timeout=15) == 0
    assert sql("SELECT state, attempt FROM drumline_ledger") == [(2, 1), (2, 1)]


def test_a_task_beyond_its_hard_time_limit_is_a_dead_letter_once(fleet, sql):
    worker = fleet.worker("default")
    fleet.manage(
        "shell",
        "--no-imports",
        "-c",
        "from probe.tasks import *\nignore_soft_limit.apply_async(time_limit=2, soft_time_limit=1)",
    )

    wait_until(lambda: row(sql)[0] == 3, "it is a dead letter")
    assert sql("SELECT attempt, error LIKE '%time limit%' FROM drumline_ledger") == [(1, True)]
    assert fleet.enqueue("drumline.ping", "--queue", "default")["state"] == "SUCCESS"
    assert worker.alive()


def test_a_task_that_the_worker_does_not_know_waits_for_one_that_does(fleet, sql):
    fleet.worker("default")
    fleet.manage(
        "shell", "--no-imports", "-c", "from celery import current_app\ncurrent_app.send_task('tomorrow', durable=True)"
    )

    wait_until(lambda: sql("SELECT 1 FROM drumline_ledger WHERE history::text LIKE '%unknown%'"), "it is deferred")
    assert row(sql) == (0, 0)


def test_a_worker_that_was_frozen_for_longer_than_its_lease_ends_itself(fleet, sql):
    worker = fleet.worker("default")
    wait_until(lambda: sql("SELECT 1 FROM drumline_worker WHERE beats > 0"), "the worker is known")

    os.kill(worker.popen.pid, signal.SIGSTOP)
    wait_until(lambda: sql("SELECT 1 FROM drumline_worker WHERE stopped_at IS NOT NULL"), "it is given up", seconds=30)
    os.kill(worker.popen.pid, signal.SIGCONT)

    assert worker.popen.wait(timeout=15) == 70
    assert "the relay declared this worker dead" in worker.text()


def test_a_worker_takes_back_a_queue_and_the_processes_that_remote_control_took(fleet, sql):
    worker = fleet.worker("default,low", concurrency=2)
    fleet.manage(
        "shell",
        "--no-imports",
        "-c",
        "from celery import current_app\n"
        "current_app.control.cancel_consumer('default')\n"
        "current_app.control.pool_shrink(1)",
    )

    worker.wait_for("the consumer of default was cancelled")
    worker.wait_for("the pool had shrunk from 2 to 1")
    assert fleet.enqueue("drumline.ping", "--queue", "default")["state"] == "SUCCESS"
    wait_until(lambda: len(children(worker.popen.pid)) == 2, "it has two processes again")
    wait_until(
        lambda: sql("SELECT queues, trouble FROM drumline_worker WHERE trouble <> ''"), "its row says what was missing"
    )
    assert sql("SELECT queues FROM drumline_worker") == [("default,low",)]
    assert worker.alive()
