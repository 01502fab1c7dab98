"""What happens when a server goes away while work is running."""


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
        "publishing": "ok",
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
    sql("DELETE FROM django_migrations WHERE app = 'drumline' AND name = '0001_initial'")

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
