"""Every failed task reaches Sentry, whichever process learns of it; and nobody waits for Sentry."""

import json

from tests.counterparts.sentry import sentry_server
from tests.support.waiting import wait_until

SEND = "from probe import tasks; "


def test_each_kind_of_failure_arrives_once_from_whoever_learns_of_it(application, sql, tmp_path):
    application.with_probe()
    with sentry_server() as sentry:
        application.env["SENTRY_DSN"] = sentry.dsn
        application.relay()
        worker = application.worker("default", concurrency=2)
        application.manage(
            "shell",
            "-c",
            SEND + "tasks.fail.delay('no mail for ada@example.com')\n"
            "tasks.die.delay('hunter2')\n"
            "tasks.ignore_soft_limit.apply_async(soft_time_limit=1, time_limit=2)",
        )
        failed = "SELECT count(*) FROM drumline_ledger WHERE state = 3"
        wait_until(lambda: sql(failed) == [(3,)], "the three are dead letters")
        wait_until(lambda: len(sentry.events) == 3, "the three are reported")

        [raised] = sentry.of_task("probe.fail")
        [died] = sentry.of_task("probe.die")
        [late] = sentry.of_task("probe.ignore_soft_limit")
        kinds = [event["exception"]["values"][-1]["type"] for event in (raised, died, late)]
        assert kinds == ["RuntimeError", "WorkerLostError", "TimeLimitExceeded"]
        assert raised["extra"]["arguments"] == {"words": "no mail for (e-mail)"}
        assert died["extra"]["arguments"] == {"token": "(hidden)"}
        ids = {str(row[0]) for row in sql("SELECT id FROM drumline_ledger")}
        assert {event["tags"]["task_id"] for event in sentry.events} == ids
        assert not any(secret in json.dumps(sentry.events) for secret in ("hunter2", "ada@"))

        # A worker that cannot say any more what it knows: the relay does.
        application.manage("shell", "-c", SEND + f"tasks.hold.delay({str(tmp_path)!r}, 'held')")
        wait_until((tmp_path / "held.started").exists, "it runs")
        sql("UPDATE drumline_ledger SET max_attempts = 1 WHERE state = 1")
        worker.stop()
        wait_until(lambda: sentry.of_task("probe.hold"), "the relay reports it", seconds=60)


def test_a_worker_goes_on_with_a_sentry_that_says_nothing(application, sql):
    application.with_probe()
    with sentry_server() as sentry:
        sentry.answers.clear()
        application.env["SENTRY_DSN"] = sentry.dsn
        application.worker("default")
        application.manage("shell", "-c", SEND + "[tasks.fail.delay('x') for _ in range(150)]")
        failed = "SELECT count(*) FROM drumline_ledger WHERE state = 3"
        wait_until(lambda: sql(failed) == [(150,)], "all have failed")
        assert sentry.events == []
