"""The ends of runs, written by a process whose database refuses some of them, or is away."""

import threading
import uuid
from collections.abc import Callable
from types import SimpleNamespace

import psycopg
import pytest
from django.db import DataError, OperationalError

from drumline.celery_hooks import tracer
from drumline.ledger.outages import is_unavailable
from drumline.ledger.statements import RunKey
from drumline.worker import claims as module
from drumline.worker.heartbeat import HeartbeatThread

REFUSALS = [
    psycopg.DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes"),
    psycopg.errors.UniqueViolation("duplicate key"),
    psycopg.errors.ProgramLimitExceeded("row is too big"),
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
    monkeypatch.setattr(module, "statements", lambda: database)
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
    database.error = psycopg.ProgrammingError("permission denied")
    claims.ended(run(), done(database, "refused"))

    assert claims.flush(), "it would be tried for ever"


def test_ends_wait_while_the_database_is_away_and_are_written_when_it_answers(claims, database):
    database.error = psycopg.OperationalError("the connection is closed")
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
    claims.ended(run(), raising(psycopg.errors.LockNotAvailable("a lock is held")))
    claims.ended(run(), done(database, "another"))
    claims.flush()

    assert database.written == ["another"]


def test_the_thread_that_closes_outlives_any_error(database, monkeypatch):
    monkeypatch.setattr(module, "statements", lambda: database)
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


def test_the_error_of_django_stands_for_that_of_the_driver():
    error = OperationalError()
    error.__cause__ = psycopg.errors.ProgramLimitExceeded("row is too big")
    assert not is_unavailable(error)
    error.__cause__ = psycopg.errors.AdminShutdown()
    assert is_unavailable(error)
    assert is_unavailable(OperationalError("database is locked"))
    assert is_unavailable(psycopg.errors.ReadOnlySqlTransaction())
