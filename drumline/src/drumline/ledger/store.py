"""The store: the only way in which a row of the ledger changes.

It holds every verb of a task's life, from `insert` to `purge`. One engine has the statements of PostgreSQL, the other one
goes through Django's connection and serves every other database. What is done to whom, and what a person reads of it, is
decided by its callers: `operators`, `recovery`, `ends` and `retention` beside it, the sender, the worker and the relay.
"""

from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from functools import cache
from importlib.util import find_spec
from typing import Any, NamedTuple, Protocol
from uuid import UUID

from django.db import connection
from django.utils.module_loading import import_string

from drumline import storable
from drumline.message import Message
from drumline.models import DurableTask

State = DurableTask.State

# Characters of a traceback that are kept, and of an error in a row's history, which has many.
TRACEBACK_LIMIT = 100_000
HISTORY_LIMIT = 2_000

# What relays listen to on PostgreSQL.
CHANNEL = "drumline_ledger"

POSTGRESQL = "drumline.ledger.postgresql.PostgreSQLStore"
PORTABLE = "drumline.ledger.portable.PortableStore"


class RunKey(NamedTuple):
    """Names one run of one task. `run` never repeats for a row; `attempt` begins again when the task is replaced."""

    task_id: UUID
    run: int
    attempt: int


class Store(Protocol):
    """Every verb of a row's life."""

    # Of senders and relays.

    def insert(self, rows: Sequence[dict[str, Any]]) -> set[UUID]:
        """Write queued rows in the caller's transaction; return the ids of those that the ledger did not have already.

        A row has the columns of its message (`Message.columns`), `id`, `due_at` (None is now), `published` and
        `max_attempts`. A task that replaces itself (Task.replace) comes again under its own id, with a higher
        `generation`, and takes the place of the row.
        """

    def mark_published(self, ids: Collection[UUID]) -> None:
        """Note that the messages of these rows were published just now."""

    def mark_unpublished(self, ids: Collection[UUID]) -> int:
        """Have a relay publish these rows, as far as they wait; return how many."""

    def wake(self) -> None:
        """Make every relay look now, or once the current transaction is committed."""

    # Of a process that runs tasks. All but `claim` need the run to be still this worker's.

    def claim(self, task_id: UUID, published: float, worker_id: UUID, finished: Sequence[RunKey]) -> RunKey | None:
        """Close what is finished and take the row; return the run's key, or None without the row.

        `published` is when the message that rang was sent, in seconds since the epoch. An early message may ring for a
        row that was published again later. The relay must not take what was sent in between for overtaken, so the row
        remembers the message that really rang.
        """

    def finish(self, worker_id: UUID, finished: Sequence[RunKey]) -> None:
        """Close what is finished."""

    def succeed(self, worker_id: UUID, run: RunKey, result: str) -> None:
        """Close it with what it returned, as JSON in ASCII."""

    def fail(  # noqa: PLR0913  all that is known of a failure
        self, worker_id: UUID, run: RunKey, error: str, traceback: str, *, exception: str = "", announce: bool = False
    ) -> None:
        """Make it a dead letter, which the relay is to `announce` to Celery if Celery does not know of it.

        `exception` is the import path of the error's class, where a reader of the history needs it.
        """

    def requeue(self, worker_id: UUID, run: RunKey, message: Message, why: str) -> None:
        """Put another message in its place, to be published by the relay when it is due."""

    def give_back(self, worker_id: UUID, run: RunKey) -> None:
        """Undo the claim: the broker delivers the same message again."""

    def reconnect(self) -> None:
        """Forget the connection after an error."""

    # Of everyone else, in a transaction that holds the rows' locks. What its caller changed is saved with the state.

    def lock(self, ids: Iterable[UUID], *states: DurableTask.State) -> list[DurableTask]:
        """Lock and return those of these rows that are in one of the states."""

    def lock_run(self, task_id: UUID, worker_id: UUID, generation: int | None = None) -> DurableTask | None:
        """Lock and return a row that runs under this worker, and in this generation where one is given."""

    def queue(self, rows: Collection[DurableTask], due_at: datetime) -> None:
        """Have a relay publish locked rows from `due_at` on."""

    def republish(self, rows: Collection[DurableTask]) -> None:
        """Have a relay publish locked rows that wait once more, when they are due."""

    def end(
        self, rows: Collection[DurableTask], state: DurableTask.State, error: str, *, announce: bool = False
    ) -> None:
        """Make dead letters of locked rows, or discard them; the relay is to `announce` what Celery does not know of."""

    def expire(self, *, limit: int) -> list[DurableTask]:
        """Lock and return queued rows that were not started in time, without those that another process has locked."""

    def purge(self, *, before: datetime, limit: int) -> int:
        """Delete rows that were finished or discarded before; return how many."""

    def finished_estimate(self) -> int | None:
        """Return about how many finished and discarded rows there are; None when nobody has analysed the table yet."""


def load_engine() -> None:
    """Import the engine of Django's default database.

    A worker's threads may ask for it first while another one forks a process, whose copy of the import's lock nobody
    would ever release. Without its driver there is none, which preflight says.
    """
    if connection.vendor != "postgresql" or find_spec("psycopg") is not None:
        _engine(connection.vendor)


def store() -> Store:
    """Return a store for Django's default database; it has a connection of its own for claims and closes."""
    return _engine(connection.vendor)()


@cache
def _engine(vendor: str) -> type[Store]:
    engine: type[Store] = import_string(POSTGRESQL if vendor == "postgresql" else PORTABLE)
    return engine


def event(what: str, worker_id: UUID | None, attempt: int, **more: Any) -> dict[str, Any]:
    """Return one entry of a row's history, fit for jsonb."""
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    kept = {name: storable.text(value, limit=HISTORY_LIMIT) for name, value in more.items()}
    return {"at": at, "what": what, "attempt": attempt, "worker": str(worker_id) if worker_id else "", **kept}


def failure(worker_id: UUID | None, attempt: int, error: str, exception: str = "") -> dict[str, Any]:
    """Return the entry of a run that failed, with the import path of the exception's class where it is known."""
    return event("failed", worker_id, attempt, error=error, **({"exception": exception} if exception else {}))
