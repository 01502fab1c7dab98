"""The ends of runs, written by a process whose database refuses some of them, or is away."""

import threading
import uuid
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from django.db import (
    DatabaseError,
    DataError,
    IntegrityError,
    InternalError,
    NotSupportedError,
    OperationalError,
    ProgrammingError,
    connection,
)

from drumline.celery_hooks import tracer
from drumline.ledger.outages import is_unavailable
from drumline.ledger.store import RunKey
from drumline.worker import claims as module
from drumline.worker.heartbeat import HeartbeatThread


class DriverError(Exception):
    """What PostgreSQL's driver raises, with the state that the server sent."""

    def __init__(self, sqlstate: str) -> None:
        super().__init__(sqlstate)
        self.sqlstate = sqlstate


def of_driver(error: DatabaseError, sqlstate: str) -> DatabaseError:
    """Give an error of Django the one of the driver that it stands for."""
    error.__cause__ = DriverError(sqlstate)
    return error


ROW_TOO_BIG = "54000"
REFUSALS = [
    of_driver(DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes"), ""),
    of_driver(IntegrityError("duplicate key"), "23505"),
    of_driver(OperationalError("row is too big"), ROW_TOO_BIG),
    UnicodeEncodeError("utf-8", "\udce9", 0, 1, "surrogates not allowed"),
    TypeError("keys must be str, int, float, bool or None, not tuple"),
    RecursionError("maximum recursion depth exceeded"),
]


class Database:
    """Keeps what is written, and raises what it is given to raise."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.written: list[object] = []

    def finish(self, _worker, finished) -> None:
        self._answer(("finished", *finished))

    def fail(self, _worker, run, error, _traceback, *, announce=False) -> None:
        self._answer(("failed", run, error, announce))

    def reconnect(self) -> None:
        pass

    def _answer(self, what) -> None:
        if self.error:
            raise self.error
        self.written.append(what)


@pytest.fixture
def database() -> Database:
    return Database()


@pytest.fixture
def claims(database, monkeypatch) -> module.Claims:
    """A process's claims, whose thread waits."""
    monkeypatch.setattr(module, "store", lambda: database)
    monkeypatch.setattr(module.threading, "Thread", lambda **_: SimpleNamespace(start=lambda: None))
    return module.Claims()


def run() -> RunKey:
    return RunKey(uuid.uuid4(), 1, 1)


def raising(error: Exception) -> Callable[..., None]:
    def write(*_: object) -> None:
        raise error

    return write


def done(database: Database, name: str) -> Callable[..., None]:
    return lambda *_: database._answer(name)


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda error: type(error).__name__)
def test_an_end_that_is_refused_becomes_a_failure_that_says_so_and_holds_no_other(claims, database, refusal):
    retry = run()
    claims.ended(retry, raising(refusal))
    claims.ended(run(), done(database, "another"))

    (what, key, error, announce), another = database.written
    assert (what, key, announce) == ("failed", retry, True)
    assert error.startswith(f"EndRefusedError: the end of this run could not be stored ({type(refusal).__name__}: ")
    assert another == "another"
    assert claims.flush()


def test_a_failure_that_celery_knows_is_not_announced_again(claims, database):
    claims.ended(run(), raising(TypeError()), known=True)

    assert database.written[0][-1] is False


def test_an_end_and_its_stand_in_that_are_both_refused_are_left_to_the_worker(claims, database):
    database.error = of_driver(ProgrammingError("permission denied"), "42501")
    claims.ended(run(), done(database, "refused"))

    assert claims.flush(), "it would be tried for ever"


def test_ends_wait_while_the_database_is_away_and_are_written_when_it_answers(claims, database):
    database.error = OperationalError("the connection is closed")
    claims.ended(run(), done(database, "first"))
    claims.ended(run(), done(database, "second"))
    closed = run()
    claims.finished(closed)
    assert not claims.flush()
    assert database.written == []

    database.error = None

    assert claims.flush()
    assert database.written[0] == ("finished", closed)
    assert sorted(database.written[1:]) == ["first", "second"]


def test_an_end_that_meets_an_outage_of_its_own_holds_no_other(claims, database):
    claims.ended(run(), raising(of_driver(OperationalError("a lock is held"), "55P03")))
    claims.ended(run(), done(database, "another"))
    claims.flush()

    assert database.written == ["another"]


def test_the_thread_that_closes_outlives_any_error(database, monkeypatch):
    monkeypatch.setattr(module, "store", lambda: database)
    monkeypatch.setattr(module, "LINGER", 0)
    monkeypatch.setattr(module.time, "sleep", lambda _: None)
    answers, written = iter([RuntimeError("a bug"), None]), threading.Event()

    def flush(_self) -> bool:
        if error := next(answers, None):
            raise error
        written.set()
        return True

    monkeypatch.setattr(module.Claims, "flush", flush)
    module.Claims().finished(run())

    assert written.wait(10)


@pytest.mark.parametrize("header", [None, "yesterday", float("nan"), float("inf"), -1, 1e300, {}, []])
def test_a_message_that_says_no_time_can_be_claimed(header):
    assert tracer._published({"published": header}) == 0.0


def test_the_worker_leaves_a_call_that_is_refused_and_repeats_one_whose_database_is_away():
    worker, calls = HeartbeatThread(SimpleNamespace()), []

    def away() -> None:
        calls.append("away")
        if len(calls) < 2:
            raise OperationalError

    worker.later(raising(DataError("a NUL")))
    worker.later(raising(KeyError("a bug")))
    worker.later(away)
    with pytest.raises(OperationalError):
        worker._work_off(seconds=0)
    worker._work_off(seconds=0)

    assert calls == ["away", "away"]


def test_an_outage_is_told_from_a_refusal_by_the_error_and_the_servers_state():
    assert not is_unavailable(of_driver(OperationalError("row is too big"), ROW_TOO_BIG))
    assert is_unavailable(of_driver(OperationalError("terminating connection"), "57P01"))
    assert is_unavailable(OperationalError("database is locked"))
    assert is_unavailable(of_driver(InternalError("a standby now"), "25006"))
    assert is_unavailable(of_driver(OperationalError("prepared statement does not exist"), "26000"))
    assert is_unavailable(of_driver(NotSupportedError("cached plan must not change result type"), "0A000"))
    assert not is_unavailable(of_driver(ProgrammingError("permission denied"), "42501"))


@pytest.mark.skipif(connection.vendor != "postgresql", reason="it has no driver of its own")
def test_whoever_uses_the_ledger_sees_errors_of_django_alone(db):  # noqa: ARG001  it opens the database
    ledger = module.store()
    with pytest.raises(OperationalError) as raised:
        ledger._execute("SELECT pg_terminate_backend(pg_backend_pid())")
    assert is_unavailable(raised.value)
    ledger.reconnect()
    with pytest.raises(DataError):
        ledger._execute("SELECT %s::text", "\0")
    ledger.reconnect()
