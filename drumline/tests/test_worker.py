import os
import socket
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import NoReturn

import pytest
from celery.concurrency import asynpool, prefork
from celery.worker import state

from drumline.celery_hooks import pools, signals
from drumline.celery_hooks.controller import Controller
from drumline.systemd import sd_notify
from drumline.worker import watchdog
from drumline.worker.heartbeat import HeartbeatThread
from drumline.worker.watchdog import Watchdog


def started(**queues) -> SimpleNamespace:
    """Return a worker's controller as it is when the worker is ready."""
    app = SimpleNamespace(amqp=SimpleNamespace(queues=SimpleNamespace(**queues)))
    consumer = SimpleNamespace(
        app=app,
        connection=SimpleNamespace(connected=True),
        initial_prefetch_count=1,
        pool=SimpleNamespace(is_green=False, num_processes=1),
    )
    return SimpleNamespace(app=app, consumer=consumer, hostname="low-1@host")


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
    monkeypatch.setattr(state, "total_count", {"drumline.ping": 3, "x": 4})
    controller = started(consume_from={"low": 1, "high": 2})
    consumer, broker = controller.consumer, controller.consumer.connection
    worker = Watchdog(Controller(controller), end=watchdog.leave)
    assert worker.status() == "high, low: 2 running, 5 done"
    broker.connected = False
    assert worker.status() == "high, low: waiting for the broker, 2 running"
    consumer.connection = None
    assert worker.status() == "high, low: waiting for the broker, 2 running"
    worker.draining = True
    assert worker.status() == "high, low: draining, 2 running"


@pytest.mark.django_db
def test_no_heartbeat_follows_the_last_word(monkeypatch):
    worker = HeartbeatThread(Controller(started(consume_from={})))
    alive = threading.Event()
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
    monkeypatch.setattr(signals, "close_old_connections", lambda: closed.append(1))
    signals.drop_stale_connections(sender=SimpleNamespace(request=SimpleNamespace(is_eager=eager)))
    assert len(closed) == times


@pytest.fixture
def ended() -> list[str]:
    """Collect why the process would have ended, which ends the look that found it."""
    return []


@pytest.fixture
def controller() -> SimpleNamespace:
    controller = started(consume_from={"low": 1})
    controller.pool = SimpleNamespace()
    return controller


@pytest.fixture
def dog(controller, ended) -> Watchdog:
    def end(why: str) -> NoReturn:
        ended.append(why)
        raise SystemExit

    return Watchdog(Controller(controller), end=end)


def heartbeat(*, failed: bool = False) -> Callable[[], bool]:
    return lambda: failed


def test_a_worker_that_cannot_take_its_queue_back_ends_itself(monkeypatch, dog, ended):
    monkeypatch.setattr(watchdog, "LOOK", 0)
    monkeypatch.setattr(dog._celery, "restore", lambda: ["the consumer of low was cancelled"])
    dog.tick()

    with pytest.raises(SystemExit):
        dog._watch_once(heartbeat())
    assert ended == ["the consumer of low was cancelled, repeatedly for 0 s"]


def test_a_worker_whose_heartbeat_has_no_thread_any_more_ends_itself(dog, ended):
    with pytest.raises(SystemExit):
        dog._watch_once(heartbeat(failed=True))
    assert ended == ["its heartbeat thread has ended"]


def test_a_worker_that_holds_a_task_for_its_rate_limit_is_not_idle(controller):
    worker = Controller(controller)
    controller.consumer.task_buckets = {"free": None, "drumline.ping": SimpleNamespace(contents=[])}
    assert worker.is_idle()

    controller.consumer.task_buckets["drumline.ping"].contents.append("a task")
    assert not worker.is_idle()


@pytest.mark.parametrize(("module", "ends"), [("celery.concurrency.solo", False), ("celery.concurrency.thread", True)])
def test_an_event_loop_that_stands_still_while_the_solo_pool_runs_a_task_is_not_stuck(
    monkeypatch, dog, ended, module, ends
):
    dog._celery._controller.pool = type("TaskPool", (), {"__module__": module})()
    monkeypatch.setattr(state, "active_requests", {1})
    dog._ticked -= watchdog.STUCK + 1

    if ends:
        with pytest.raises(SystemExit):
            dog._watch_once(heartbeat())
    else:
        dog._watch_once(heartbeat())
    assert bool(ended) is ends


@pytest.fixture
def stopping_promptly(monkeypatch):
    for owner, name in ((asynpool.Worker, "_do_exit"), (asynpool, "sleep"), (prefork, "time")):
        # Celery 5.4's prefork has no timer thread, and no `time`.
        monkeypatch.setattr(owner, name, getattr(owner, name, None), raising=False)
    pools.stop_promptly(SimpleNamespace(on_stop=lambda: None))


@pytest.mark.parametrize(
    ("exitcode", "sleeps"), [(None, False), (0, False), (155, True)], ids=["pool closed", "no more tasks", "recycled"]
)
@pytest.mark.usefixtures("stopping_promptly")
def test_a_process_of_a_pool_that_was_closed_ends_without_the_sleep_of_one_that_is_replaced(exitcode, sleeps):
    told, tells = os.pipe()
    process = SimpleNamespace(
        on_exit=lambda *_: os.write(tells, b"exits "), outq=SimpleNamespace(put=lambda _: os.write(tells, b"says so "))
    )
    if (pid := os.fork()) == 0:
        time.sleep = lambda _: os.write(tells, b"sleeps")
        asynpool.Worker._do_exit(process, os.getpid(), exitcode)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == (exitcode or 0)
    assert os.read(told, 100) == (b"exits says so sleeps" if sleeps else b"exits ")


@pytest.mark.usefixtures("stopping_promptly")
def test_a_worker_that_stops_looks_more_often_than_twice_a_second_whether_its_processes_have_ended(monkeypatch):
    naps = []
    monkeypatch.setattr(time, "sleep", naps.append)
    asynpool.sleep(0)
    asynpool.sleep(0.5)
    prefork.time.sleep(0.5)
    assert naps == [0, pools.LOOK, pools.LOOK]
