"""The ledger against its model once more, by the statements and on the server of production."""

import dj_database_url
import pytest
from django.db import connections
from django.db.backends.postgresql.base import DatabaseWrapper

from drumline.ledger.statements import PostgreSQLStatements
from tests.app.drumline.test_ledger_machine import Ledger, check


@pytest.fixture
def on_postgresql(cluster, database, django_db_blocker):
    """Make a migrated database on the server this process's own."""
    here = connections["default"]
    there = DatabaseWrapper({**here.settings_dict, **dj_database_url.parse(cluster.url(database))}, alias="default")
    connections["default"] = there
    with django_db_blocker.unblock():
        yield there
        there.close()
    connections["default"] = here


class LedgerOnPostgreSQL(Ledger):
    statements = PostgreSQLStatements


@pytest.mark.usefixtures("on_postgresql")
def test_whatever_happens_in_whatever_order_postgresql_agrees_with_the_model(monkeypatch):
    check(LedgerOnPostgreSQL, monkeypatch, examples=40)
