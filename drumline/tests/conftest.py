"""The package's own tests: no socket, no broker, and nothing of the repository around it."""

import re
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from django.contrib.auth import get_user_model
from django.db import connection
from django.test import Client
from django.utils.connection import ConnectionDoesNotExist

import drumline

SOURCE = str(Path(drumline.__file__).parent)
STORE = {
    f"{SOURCE}/ledger/portable.py",
    f"{SOURCE}/ledger/postgresql.py",
    *map(str, Path(SOURCE).rglob("migrations/*.py")),
}
WRITES = re.compile(r'\s*(INSERT INTO|UPDATE|DELETE FROM) "?drumline_ledger\b', re.IGNORECASE)

collect_ignore = [] if find_spec("django_celery_beat") else ["beat"]


def pytest_collection_modifyitems(items):
    # Where a name moved, everything else may fail too.
    items.sort(key=lambda item: item.path.name != "test_private_names.py")


@pytest.fixture(autouse=True, scope="session")
def _tasks_of_the_project(django_db_setup, django_db_blocker):  # noqa: ARG001  it makes the database
    from testproject.celery import app

    # Celery has Django check its models, and Django 6.1 asks the database for that.
    with django_db_blocker.unblock():
        app.loader.import_default_modules()


@pytest.fixture(autouse=True)
def _no_leftover_failure_of_the_broker():
    from drumline.broker.publishing import breaker

    breaker.answered()


@pytest.fixture(autouse=True)
def _rows_change_through_the_store_alone():
    """Whatever a test does, the package writes to the ledger's table in the store and nowhere else."""
    with connection.execute_wrapper(_refuse_to_write_past_the_store):
        yield


def _refuse_to_write_past_the_store(execute, sql, *context):
    if WRITES.match(sql):
        frame = sys._getframe(1)
        # Who asked Django for it: a test arranges rows as it likes.
        while frame and not frame.f_code.co_filename.startswith(SOURCE) and "/tests/" not in frame.f_code.co_filename:
            frame = frame.f_back
        where = frame.f_code.co_filename if frame else ""
        assert not where.startswith(SOURCE) or where in STORE, f"{where} writes past the store: {sql[:200]}"
    return execute(sql, *context)


@pytest.fixture
def root(db):  # noqa: ARG001  it opens the database
    client = Client()
    client.force_login(get_user_model().objects.create_superuser("root"))
    return client


@pytest.fixture
def another_application():
    """A second Celery application of the process, which was created last; `testproject.own` is a task of the first."""
    from celery import Celery
    from testproject.celery import app

    @app.task(name="testproject.own", shared=False)
    def own(): ...

    yield Celery("another", broker="redis://127.0.0.1:1/1", set_as_current=True)
    app.set_current()
    app.tasks.unregister("testproject.own")


@pytest.fixture
def no_broker(monkeypatch):
    """The ledger keeps what is sent, and nothing reaches a broker or waits for one."""

    def away(_):
        raise ConnectionError

    monkeypatch.setattr("drumline.management.commands.queues.queue_depths", away)
    monkeypatch.setattr("drumline.sending.enqueue.publish", lambda _: None)


class Replica:
    """A router that reads tasks and their results where there is nothing: a replica that lags behind."""

    def db_for_read(self, model, **_hints):
        return "replica" if model._meta.object_name in {"DurableTask", "TaskResult"} else None


@pytest.fixture
def replica(settings, db):  # noqa: ARG001  it opens the database
    """Have every query of a task or a result fail that leaves to a router where it is read."""
    from drumline.models import DurableTask

    settings.DATABASE_ROUTERS = [Replica()]
    with pytest.raises(ConnectionDoesNotExist):
        DurableTask.objects.exists()
    yield
    settings.DATABASE_ROUTERS = []
