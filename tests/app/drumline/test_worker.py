import socket
import threading
from types import SimpleNamespace

import pytest
from celery.worker import state

from drumline.worker import life, lifecycle
from drumline.worker.notify import sd_notify


@pytest.fixture
def listener(tmp_path, monkeypatch):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield sock


def test_lines_reach_the_service_manager(listener):
    assert sd_notify("READY=1", "STATUS=fine")
    assert listener.recv(100) == b"READY=1\nSTATUS=fine"


def test_an_abstract_socket_is_reached_too(monkeypatch):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("\0drumline-test-notify")
        monkeypatch.setenv("NOTIFY_SOCKET", "@drumline-test-notify")
        assert sd_notify("READY=1")
        assert sock.recv(100) == b"READY=1"


def test_nothing_happens_without_a_service_manager_or_with_a_dead_one(monkeypatch, tmp_path):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not sd_notify("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    assert not sd_notify("READY=1")


def test_the_status_names_the_queues_and_counts_tasks(monkeypatch):
    monkeypatch.setattr(state, "active_requests", {1, 2})
    monkeypatch.setattr(state, "total_count", {"core.ping": 3, "x": 4})
    queues = SimpleNamespace(consume_from={"low": 1, "high": 2})
    broker = SimpleNamespace(connected=True)
    app, consumer = SimpleNamespace(amqp=SimpleNamespace(queues=queues)), SimpleNamespace(connection=broker)
    worker = life.Life(SimpleNamespace(app=app, consumer=consumer))
    assert worker.status() == "high, low: 2 running, 5 done"
    broker.connected = False
    assert worker.status() == "high, low: waiting for the broker, 2 running"
    consumer.connection = None
    assert worker.status() == "high, low: waiting for the broker, 2 running"
    worker.draining = True
    assert worker.status() == "high, low: draining, 2 running"


@pytest.mark.django_db
def test_no_heartbeat_follows_the_last_word(monkeypatch):
    worker = life.Life(SimpleNamespace())
    alive = threading.Event()
    monkeypatch.setattr(worker, "_watch", lambda: None)
    monkeypatch.setattr(worker, "_beat", alive.set)
    worker.start()
    assert alive.wait(10)
    worker.end()
    assert not worker.is_alive()


@pytest.mark.parametrize(("eager", "times"), [(True, 0), (False, 1)])
def test_stale_connections_are_dropped_before_a_task_but_never_inside_its_callers_transaction(
    monkeypatch, eager, times
):
    closed = []
    monkeypatch.setattr(lifecycle, "close_old_connections", lambda: closed.append(1))
    lifecycle.drop_stale_connections(sender=SimpleNamespace(request=SimpleNamespace(is_eager=eager)))
    assert len(closed) == times
