"""The pools of Celery besides prefork run a task under its claim, also after a reconnect, and give it back on a stop."""

import signal

import pytest

from tests.support.waiting import wait_until


@pytest.fixture
def fleet(application):
    application.with_probe()
    application.relay()
    return application


def send(fleet, *tasks: str) -> None:
    fleet.manage("shell", "--no-imports", "-c", "\n".join(["from probe.tasks import *", *tasks]))


def effects(folder, name: str) -> int:
    path = folder / f"{name}.effects"
    return len(path.read_text().splitlines()) if path.exists() else 0


# gevent is not installed here; it passed the same test (docs/guarantees.md).
@pytest.mark.parametrize("pool", ["solo", "threads"])
def test_a_pool_without_processes_runs_each_task_once_and_gives_back_what_a_cold_stop_interrupts(
    fleet, broker, sql, tmp_path, pool
):
    def ends_as(*expected: tuple) -> None:
        def rows() -> list[tuple]:
            return sql("SELECT name, state, attempt, max_attempts FROM drumline_ledger ORDER BY name, created_at")

        try:
            wait_until(lambda: rows() == [*expected], "the rows")
        except AssertionError:
            raise AssertionError(f"the ledger holds {rows()}, not {[*expected]}\n{worker.text()[-3000:]}") from None

    worker = fleet.worker("default", pool=pool, concurrency=2)
    folder = repr(str(tmp_path))
    note, retried = ("probe.note", 2, 1, 3), ("probe.retry_in_a_transaction", 2, 3, 3)

    send(fleet, f"note.delay({folder}, 'first')", f"retry_in_a_transaction.delay({folder}, 'retried')")
    ends_as(note, retried)

    # Celery builds its tracers again with each connection.
    broker.kill()
    broker.start()
    wait_until(lambda: worker.text().count("Connected to redis") > 1, "the worker is connected again", seconds=40)
    send(fleet, f"note.delay({folder}, 'second')", "fail.delay('on purpose')", f"hold.delay({folder}, 'held')")
    failed = ("probe.fail", 3, 1, 3)
    ends_as(failed, ("probe.hold", 1, 1, 3), note, note, retried)
    assert [effects(tmp_path, name) for name in ("first", "retried.attempts", "retried", "second")] == [1, 3, 1, 1]

    worker.popen.terminate()
    worker.popen.send_signal(signal.SIGQUIT)
    worker.popen.wait(timeout=20)
    ends_as(failed, ("probe.hold", 0, 1, 4), note, note, retried)


def test_a_worker_with_a_pool_whose_tasks_might_run_without_a_claim_does_not_start(application):
    pool = "celery.concurrency.base:BasePool"
    worker = application.worker("default", pool="custom", ready=False, CELERY_CUSTOM_WORKER_POOL=pool)

    assert worker.popen.wait(timeout=40) == 1
    assert f"Not started: Drumline does not support the pool {pool}" in worker.text()
