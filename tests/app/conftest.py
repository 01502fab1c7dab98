"""Unit tests: no sockets but the ones a test asks for by running a process."""

import pytest
from django.contrib.auth import get_user_model
from django.db import DatabaseError
from django.test import Client


@pytest.fixture(autouse=True)
def _no_leftover_throttling():
    from django.core.cache import cache

    cache.clear()


@pytest.fixture(autouse=True)
def _no_leftover_failure_of_the_broker():
    from drumline.broker.publishing import breaker

    breaker.answered()


@pytest.fixture
def user(db):  # noqa: ARG001  it opens the database
    return get_user_model().objects.create_user("ada@example.com", "difference engine no. 2", full_name="Ada")


@pytest.fixture
def ada(client, user):
    client.force_login(user)
    return client


@pytest.fixture
def stranger(db):  # noqa: ARG001  it opens the database
    client = Client()
    client.force_login(get_user_model().objects.create_user("eve@example.com", "p"))
    return client


@pytest.fixture
def root(db):  # noqa: ARG001  it opens the database
    client = Client()
    client.force_login(get_user_model().objects.create_superuser("root@example.com", "p"))
    return client


@pytest.fixture
def no_broker(monkeypatch):
    """The ledger keeps what is sent, and nothing reaches a broker."""
    monkeypatch.setattr("drumline.sending.enqueue.publish", lambda _: None)


@pytest.fixture
def no_ledger(monkeypatch):
    """No task can be written: what belongs to it must not be stored either."""

    def enqueue(*_):
        raise DatabaseError

    monkeypatch.setattr("drumline.celery_hooks.producer.enqueue", enqueue)
