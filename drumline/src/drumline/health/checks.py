"""Is this process able to serve: database, broker, migrations and publishing, each within two seconds.

The answers are public, so they name a kind of error and never its text; the text goes to the log.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any

from django.db import connection
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.db.models import Exists
from django.utils.timezone import now

from drumline import conf
from drumline.application import application
from drumline.health.heartbeats import PUBLISHING
from drumline.ledger.selectors import UNPUBLISHED
from drumline.logs import get_logger
from drumline.models import DurableTask, Heartbeat

logger = get_logger(__name__)

SECONDS = 2


class NotReadyError(Exception):
    """A part answers, but not as it must; the message is safe to publish."""


@dataclass(frozen=True, slots=True)
class Check:
    """What one part answered, and after how long."""

    ok: bool
    milliseconds: float
    reason: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return the public form."""
        answer: dict[str, Any] = {"status": "ok" if self.ok else "error", "milliseconds": self.milliseconds}
        if self.reason:
            answer["reason"] = self.reason
        return answer


_UNKNOWN = Check(ok=False, milliseconds=0.0, reason="not checked: the database does not answer or is not migrated")


def readiness() -> dict[str, Check]:
    """Ask every part once. The database is asked over a connection of its own, so that a frozen server is noticed."""
    probe = connection.copy()
    if probe.vendor == "postgresql":
        options = probe.settings_dict["OPTIONS"] = dict(probe.settings_dict["OPTIONS"])
        options["connect_timeout"] = SECONDS
        options["tcp_user_timeout"] = SECONDS * 1000
    try:
        database = _measure("database", lambda: _answers(probe))
        migrations = _measure("migrations", lambda: _migrated(probe)) if database.ok else _UNKNOWN
        publishing = _measure("publishing", lambda: _published(probe)) if migrations.ok else _UNKNOWN
    finally:
        probe.close()
    broker = _measure("broker", _broker_answers)
    return {"database": database, "broker": broker, "migrations": migrations, "publishing": publishing}


def load() -> None:
    """Read the migrations, and import the broker's client. Nothing is asked, so it works while every part is down."""
    _known_migrations()
    application().connection_for_write()


def _measure(part: str, ask: Callable[[], None]) -> Check:
    started = time.perf_counter()
    reason = ""
    try:
        ask()
    except NotReadyError as error:
        reason = str(error)
    except Exception as error:  # noqa: BLE001  whatever went wrong, the answer is 503 with the part's name
        reason = type(error).__name__
        logger.warning("not_ready", part=part, error=str(error))
    return Check(ok=not reason, milliseconds=round((time.perf_counter() - started) * 1000, 1), reason=reason)


def _answers(probe: BaseDatabaseWrapper) -> None:
    if probe.vendor == "postgresql":
        # Within a transaction, which ends with the probe: a pooler refuses settings at the connection.
        probe.set_autocommit(False)
    with probe.cursor() as cursor:
        if probe.vendor == "postgresql":
            cursor.execute(f"SET LOCAL statement_timeout = {SECONDS * 1000}")
        cursor.execute("SELECT 1")


def _migrated(probe: BaseDatabaseWrapper) -> None:
    missing = _known_migrations() - set(MigrationRecorder(probe).applied_migrations())
    if missing:
        message = f"{len(missing)} not applied"
        raise NotReadyError(message)


def _published(probe: BaseDatabaseWrapper) -> None:
    """Fail when a due task waits for its message and no relay publishes: whatever the broker answers, workers get nothing.

    A long backlog is no failure: its oldest row may wait for minutes while a relay publishes thousands a second.
    """
    lag = conf.max_publish_lag()
    before = now() - timedelta(seconds=lag)
    relays = Heartbeat.objects.filter(name__startswith=f"{PUBLISHING}@", at__gte=before)
    waiting = DurableTask.objects.filter(~Exists(relays), **UNPUBLISHED, due_at__lt=before).values("pk")[:1]
    # The probe is no connection that Django knows by a name.
    statement, values = waiting.query.get_compiler(connection=probe).as_sql()
    with probe.cursor() as cursor:
        cursor.execute(statement, values)
        if cursor.fetchone():
            raise NotReadyError(f"due tasks have waited to be published for more than {lag:g} s")


@cache
def _known_migrations() -> frozenset[tuple[str, str]]:
    """Read the migration files once a process: a release never changes."""
    return frozenset(MigrationLoader(None).graph.nodes)


def _broker_answers() -> None:
    timeouts = {"socket_timeout": SECONDS, "socket_connect_timeout": SECONDS, "retry_on_timeout": False}
    options = {**application().conf.broker_transport_options, **timeouts}
    with application().connection_for_write(connect_timeout=SECONDS, transport_options=options) as broker:
        broker.ensure_connection(max_retries=1, timeout=SECONDS)
