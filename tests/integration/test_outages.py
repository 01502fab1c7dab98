"""What happens when a server goes away while work is running."""

import json
from pathlib import Path

from tests.integration.servers import wait_until


def hold(application, folder: Path, name: str) -> str:
    """Send a task that stays until its gate opens; return its id."""
    return application.manage("enqueue", "probe.hold", json.dumps([str(folder), name])).stdout.strip()


def effects(folder: Path, name: str) -> list[str]:
    path = folder / f"{name}.effects"
    return path.read_text().splitlines() if path.exists() else []


def test_a_worker_that_loses_the_broker_during_a_task_lives_on(application, broker, tmp_path):
    application.with_probe()
    worker = application.worker("default")
    pid = worker.popen.pid
    hold(application, tmp_path, "first")
    wait_until((tmp_path / "first.started").exists, "the task runs")
    assert broker.client.hlen("unacked") == 1

    broker.kill()
    # Several failed attempts: some versions die while they reconnect, not when they lose the connection.
    worker.wait_for("Trying again in 4.00 seconds")
    broker.start()
    wait_until(lambda: worker.text().count("Connected to redis") == 2, "the worker is connected again", seconds=40)
    (tmp_path / "first.gate").touch()

    wait_until(lambda: effects(tmp_path, "first"), "the task has ended")
    wait_until(lambda: broker.client.hlen("unacked") == 0, "the task is acknowledged")
    report = application.enqueue("core.ping", "--queue", "default")
    assert report["state"] == "SUCCESS"
    assert effects(tmp_path, "first") == ["done"]
    assert worker.alive()
    assert worker.popen.pid == pid
    assert broker.client.llen("default") == 0


def test_a_worker_completes_every_task_after_the_database_was_restarted(application, cluster):
    application.with_probe()
    application.worker("default", concurrency=2)
    before = [application.enqueue("probe.count_users") for _ in range(2)]

    cluster.stop()
    cluster.start()

    after = [application.enqueue("probe.count_users") for _ in range(6)]
    assert [report["state"] for report in before + after] == ["SUCCESS"] * 8


def test_readiness_names_what_fails_and_recovers(application, broker, cluster):
    application.web()
    answer = application.get("/readyz")
    assert answer.status == 200, answer.body
    assert {name: check["status"] for name, check in answer.json()["checks"].items()} == {
        "database": "ok",
        "broker": "ok",
        "migrations": "ok",
    }

    broker.kill()
    answer = application.get("/readyz")
    assert answer.status == 503
    assert answer.json()["checks"]["broker"]["status"] == "error"
    assert answer.json()["checks"]["database"]["status"] == "ok"
    broker.start()

    cluster.stop()
    answer = application.get("/readyz")
    cluster.start()
    assert answer.status == 503
    assert answer.json()["checks"]["database"]["status"] == "error"
    assert answer.json()["checks"]["migrations"]["status"] == "error"
    assert answer.json()["checks"]["broker"]["status"] == "ok"
    assert application.get("/livez").status == 200

    answer = application.get("/readyz")
    assert answer.status == 200, answer.body


def test_readiness_names_a_migration_that_was_not_applied(application, sql):
    application.web()
    sql("DELETE FROM django_migrations WHERE app = 'drumline'")

    answer = application.get("/readyz")

    assert answer.status == 503
    assert answer.json()["checks"]["migrations"]["reason"] == "1 not applied"


def test_a_frozen_broker_and_a_frozen_answer_do_not_hold_the_readiness_check(application, broker):
    application.web()
    application.get("/readyz")
    broker.process.send_signal(19)
    try:
        answer = application.get("/readyz")
    finally:
        broker.process.send_signal(18)

    assert answer.status == 503
    assert answer.json()["checks"]["broker"]["milliseconds"] < 6000
