"""PgBouncer that pools transactions, in front of everything that the application asks the database."""

import json
from pathlib import Path

import pytest

from tests.support.application import Application
from tests.support.servers import PgBouncer
from tests.support.waiting import wait_until


@pytest.fixture
def pgbouncer(request, cluster):
    """One that refuses options at the connection, as it does by default, or is told to ignore them."""
    bouncer = PgBouncer(cluster, ignoring=getattr(request, "param", ""))
    bouncer.start()
    yield bouncer
    bouncer.stop()


@pytest.fixture
def pooled(application: Application, pgbouncer: PgBouncer, database: str) -> Application:
    application.env["DATABASE_URL"] = pgbouncer.url(database) + "?pgbouncer=true"
    application.with_probe()
    return application


def effects(folder: Path, name: str) -> int:
    path = folder / f"{name}.effects"
    return len(path.read_text().splitlines()) if path.exists() else 0


@pytest.mark.parametrize("pgbouncer", ["", "options"], indirect=True, ids=["refuses options", "ignores options"])
def test_tasks_run_retry_fail_and_wait_behind_a_pooler(pooled, sql, tmp_path):
    pooled.worker("default", concurrency=2)
    pooled.relay()
    pooled.manage(
        "shell",
        "--no-imports",
        "--command",
        "from celery import *\nfrom probe.tasks import *\n"
        f"folder = {str(tmp_path)!r}\n"
        "group(note.si(folder, f'member-{n}') for n in range(20)).delay()\n"
        "note.apply_async((folder, 'delayed'), countdown=0.5)\n"
        "retry_in_a_transaction.delay(folder, 'third-time')\n"
        "fail.delay('broken')\n",
    )

    names = [*(f"member-{n}" for n in range(20)), "delayed", "third-time"]
    wait_until(lambda: all(effects(tmp_path, name) for name in names), "every task has run", seconds=40)
    states = "SELECT state, count(*) FROM drumline_ledger GROUP BY state"
    wait_until(lambda: dict(sql(states)) == {2: len(names), 3: 1}, "every task has ended", seconds=40)
    assert [effects(tmp_path, name) for name in names] == [1] * len(names)
    logs = "".join(process.text() for process in pooled.processes)
    for trouble in ("claim_unavailable", "ledger_unavailable", "database_unavailable", "prepared statement"):
        assert trouble not in logs, logs[-3000:]


def test_the_site_is_ready_behind_a_pooler(pooled):
    pooled.web()
    answer = pooled.get("/readyz")
    assert answer.json()["checks"]["database"]["status"] == "ok", answer.body
    assert answer.json()["checks"]["migrations"]["status"] == "ok", answer.body


def test_claims_do_not_wait_for_the_disk_and_every_other_commit_does(pooled):
    """The setting reaches the server with the statement, and ends with it, whichever session that was."""
    code = (
        "from django.db import connection\n"
        "from drumline.ledger.postgresql import PostgreSQLStore\n"
        "ask = \"SELECT current_setting('synchronous_commit')\"\n"
        "claims, cursor = PostgreSQLStore(), connection.cursor()\n"
        "for _ in range(3):\n"
        "    cursor.execute(ask)\n"
        "    print(claims._execute(ask).fetchone()[0], cursor.fetchone()[0])\n"
    )
    said = pooled.manage("shell", "--no-imports", "--command", code).stdout.split()
    assert said == ["off", "on"] * 3


def test_preflight_finds_the_pooler_and_says_what_to_write(application, pgbouncer, database):
    application.env["DATABASE_URL"] = pgbouncer.url(database)
    application.env["DJANGO_SETTINGS_MODULE"] = "unsaid"
    (application.folder / "unsaid.py").write_text("from config.settings.production import *\ndel DRUMLINE_PGBOUNCER\n")
    application.env["PYTHONPATH"] += f":{application.folder}"
    found = application.manage("drumline_check", "--serve", "high,default,low", check=False)
    assert found.returncode == 1
    assert "is reached through a pooler: set DRUMLINE_PGBOUNCER to True" in found.stderr, found.stderr
    assert 'add "DISABLE_SERVER_SIDE_CURSORS": True' in found.stderr

    application.env["DJANGO_SETTINGS_MODULE"] = "config.settings.production"
    application.env["DATABASE_URL"] += "?pgbouncer=true"
    application.manage("drumline_check", "--serve", "high,default,low")


@pytest.mark.parametrize("pgbouncer", ["options"], indirect=True, ids=["ignores options"])
def test_a_worker_finds_the_pooler_without_the_setting(application, pgbouncer, database):
    """What is not said is asked: no task waits for a setting."""
    application.env["DATABASE_URL"] = pgbouncer.url(database)
    (application.folder / "unsaid.py").write_text("from config.settings.production import *\ndel DRUMLINE_PGBOUNCER\n")
    application.env |= {
        "DJANGO_SETTINGS_MODULE": "unsaid",
        "PYTHONPATH": f"{application.env['PYTHONPATH']}:{application.folder}",
    }
    worker = application.worker("default")
    report = json.loads(application.manage("enqueue", "drumline.ping", "--wait", "30").stdout.splitlines()[-1])
    assert report["state"] == "SUCCESS", worker.text()[-3000:]
