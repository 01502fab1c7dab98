"""Limits hold for all web processes together."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

CSV = "reference,sku,quantity,amount,currency,date\nR-1,S,1,2.50,EUR,2026-11-23\n"


def test_an_account_imports_thirty_files_an_hour_however_many_processes_answer(application, sql):
    application.env["WEB_CONCURRENCY"] = "3"
    application.web()
    code = "from django.contrib.auth import get_user_model as u; u().objects.create_user('ada@example.com')"
    application.manage("shell", "-c", code)
    ada = {**application.sign_in("ada@example.com"), "Content-Type": "text/csv"}

    with ThreadPoolExecutor(6) as clients:
        answers = list(clients.map(lambda _: application.post("/api/imports/", CSV, **ada).status, range(70)))

    assert Counter(answers) == {202: 30, 429: 40}
    assert sql("SELECT count(*) FROM warehouse_csvimport") == [(30,)]
    # A count is not worth a write to the disk.
    assert sql("SELECT relpersistence FROM pg_class WHERE relname = 'api_requestcount'") == [("u",)]
