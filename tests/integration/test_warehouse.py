"""A CSV file through the API to its movements, and the figures of a day, with workers that fail and are killed."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from tests.support.waiting import wait_until

ROWS = 20_000
HEADER = b"reference,sku,quantity,amount,currency,date\n"
SIGN_IN = """
from django.contrib.auth import get_user_model
from django.test import Client
client = Client()
client.force_login(get_user_model().objects.create_user("ada@example.com", "difference engine no. 2"))
print(client.cookies["sessionid"].value)
"""
ALL_ENDED = "SELECT count(*) FROM drumline_ledger WHERE state IN (0, 1)"
HELD = """SELECT (SELECT count(*) FROM warehouse_movement), (SELECT count(*) FROM warehouse_stagedmovement),
    (SELECT count(*) FROM warehouse_csvpiece)"""


def rows(number):
    return [b"REF-%06d,SKU-%d,%d,2.50,EUR,2026-11-23\n" % (n, n % 500, n % 9 + 1) for n in range(number)]


@pytest.fixture
def signed_in(application):
    """The headers of somebody who is signed in."""
    key = application.manage("shell", "--no-imports", "--command", SIGN_IN).stdout.strip()
    token = "c" * 32
    return {
        "Cookie": f"sessionid={key}; csrftoken={token}",
        "X-CSRFToken": token,
        "Referer": "https://testserver/",
        "Content-Type": "text/csv",
    }


@pytest.fixture
def upload(application, signed_in):
    """Upload a file, and return a look at how far it is."""
    application.relay()
    application.web()

    def upload(data):
        answer = application.post("/api/imports/", data, **signed_in)
        assert answer.status == 202, answer.body
        return lambda: application.get(answer.json()["url"], **signed_in).json()

    return upload


def ended(look):
    return wait_until(
        lambda: (told := look())["state"] in {"loaded", "failed"} and told, "the import has ended", seconds=120
    )


def test_a_broken_file_is_refused_with_its_line_and_the_mended_one_becomes_movements(application, upload, sql):
    for instance in (1, 2):
        application.worker("low", instance=instance)
    lines = rows(ROWS)
    lines[3_000] = b"REF-X,SKU,0,2.50,EUR,2026-11-23\n"
    lines[9_000] = b"x" * 5_000 + b"\n"
    lines[15_000] = lines[3]

    told = ended(upload(HEADER + b"".join(lines)))

    assert told["state"] == "failed"
    assert told["error"].startswith("chunk 2 of 4, from line ")
    assert told["error"].endswith(" on: line 9002: a record of more than 4096 bytes")
    [(name, error)] = wait_until(
        lambda: sql("SELECT name, error FROM drumline_ledger WHERE state = 3"), "the chunk's task is a dead letter"
    )
    assert (name, error) == ("warehouse.process_chunk", "ChunkError: line 9002: a record of more than 4096 bytes")
    wait_until(lambda: sql(ALL_ENDED) == [(0,)], "every task has ended")
    assert sql(HELD) == [(0, 0, 0)]

    del lines[9_000]
    told = ended(upload(HEADER + b"".join(lines)))

    loaded, quantity = ROWS - 3, sum(n % 9 + 1 for n in range(ROWS) if n not in {3_000, 9_000, 15_000})
    assert (told["state"], told["rows"], told["loaded"], told["rejected"]) == ("loaded", ROWS - 1, loaded, 2)
    assert told["chunks"] == told["chunks_done"] == 4
    assert [reject["line"] for reject in told["rejects"]] == [3_002, 15_001]
    assert told["rejects"][1]["reason"] == "reference: the same as on line 5"
    assert told["totals"] == {"EUR": {"movements": loaded, "quantity": quantity, "amount": f"{loaded * 2.5:.2f}"}}
    assert sql("SELECT count(DISTINCT reference), sum(quantity) FROM warehouse_movement") == [(loaded, quantity)]
    wait_until(lambda: sql(ALL_ENDED) == [(0,)], "every task has ended")
    assert sql(HELD) == [(loaded, 0, 0)]


@contextmanager
def holding(application, statement: str) -> Iterator[None]:
    """Keep a lock that stops a worker in the middle of its work."""
    with psycopg.connect(application.env["DATABASE_URL"]) as connection:
        connection.execute(statement)
        yield


def test_workers_that_are_killed_lose_and_double_no_row(application, upload, sql):
    look = upload(HEADER + b"".join(rows(ROWS)))
    application.manage(
        "shell", "--command", "from apps.warehouse.services import imports; imports.import_split(import_id=1)"
    )
    waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND query ILIKE '%{}%'"

    with holding(application, "SELECT 1 FROM warehouse_csvchunk WHERE number = 3 FOR UPDATE"):
        worker = application.worker("low")
        wait_until(
            lambda: sql(waits.format('UPDATE "warehouse_csvchunk"')) == [(1,)], "the third chunk is being written"
        )
        told = look()
        worker.stop()
    assert (told["chunks_done"], told["chunks"]) == (2, 4)

    with holding(application, "LOCK TABLE warehouse_movement IN SHARE MODE"):
        worker = application.worker("low")
        wait_until(
            lambda: sql(waits.format("INSERT INTO warehouse_movement")) == [(1,)], "the movements are being loaded"
        )
        told = look()
        worker.stop()
    assert (told["chunks_done"], told["state"], told["loaded"]) == (4, "processing", 0)

    application.worker("low")
    told = ended(look)
    assert (told["state"], told["loaded"], told["rejected"]) == ("loaded", ROWS, 0)
    assert sql("SELECT count(*), count(DISTINCT reference) FROM warehouse_movement") == [(ROWS, ROWS)]
    again = "SELECT name, max(attempt) FROM drumline_ledger WHERE attempt > 1 GROUP BY name ORDER BY name"
    assert sql(again) == [("warehouse.aggregate_results", 2), ("warehouse.process_chunk", 2)]


def test_a_day_whose_last_link_fails_is_resumed_there(application, sql):
    application.relay()
    application.worker("low")
    application.manage(
        "shell",
        "--command",
        """
from datetime import UTC, datetime
from apps.users.models import User
for number in range(3):
    User.objects.create(email=f"user{number}@example.com", created_at=datetime(2026, 11, 22, 9 + number // 2, tzinfo=UTC))
""",
    )
    sql("ALTER TABLE warehouse_dailyfigure RENAME TO elsewhere")

    application.enqueue("warehouse.run_day", json.dumps(["2026-11-22"]))

    state = "SELECT state, step, error FROM warehouse_dailyrun"
    wait_until(lambda: sql(state)[0][0] == "failed", "the run has failed")
    [(_, step, error)] = sql(state)
    assert step == "load"
    assert error.startswith('ProgrammingError: relation "warehouse_dailyfigure" does not exist')

    sql("ALTER TABLE elsewhere RENAME TO warehouse_dailyfigure")
    application.manage("shell", "--command", "from apps.warehouse.services import daily; daily.run_resume(run_id=1)")

    wait_until(lambda: sql(state) == [("done", "load", "")], "the run is done")
    assert sql("SELECT measure, hour, value FROM warehouse_dailyfigure ORDER BY hour") == [
        ("sign_ups", 9, 2),
        ("sign_ups", 10, 1),
    ]
    links = "SELECT name, count(*) FROM drumline_ledger WHERE name LIKE 'warehouse.%' GROUP BY name ORDER BY name"
    assert sql(links) == [
        ("warehouse.fetch_data", 1),
        ("warehouse.load_to_warehouse", 2),
        ("warehouse.run_day", 1),
        ("warehouse.transform_data", 1),
    ]
