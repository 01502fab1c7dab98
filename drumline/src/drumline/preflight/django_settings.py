"""What the project's Django settings would lose or leave open in workers; `check --deploy` has the web's side."""

import difflib
import math
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from typing import Any

from django.apps import apps
from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, OperationalError, connections, router
from django.db.backends.base.base import BaseDatabaseWrapper

from drumline import conf
from drumline.ledger.pooling import stands_before
from drumline.models import DurableTask
from drumline.worker.heartbeat import HEARTBEAT

# What to set instead of a value of another type.
VALUES: dict[Any, str] = {
    bool: "True or False",
    bool | None: "True, False or None",
    int: "a whole number",
    float: "a number",
    str: "a string",
}

# The least value, and what is wrong with a lower one. A number without an entry must be more than 0.
LEAST: dict[str, tuple[float, str]] = {
    # A heartbeat may be sent a second late, and the relay may read it a second after that. One that fails is sent again
    # after another second, for which two heartbeats leave no time.
    "DRUMLINE_LEASE": (
        3 * HEARTBEAT,
        f"and a worker sends a heartbeat every {HEARTBEAT:g} s, so one that lives may be declared dead",
    ),
    "DRUMLINE_MAX_ATTEMPTS": (1, "but every task is started at least once"),
    # At 0 a task is deleted as soon as it has ended.
    "DRUMLINE_KEEP_FINISHED": (0, "which is negative"),
}


def django_problems() -> Iterator[str]:
    """Yield one line for each setting that breaks the ledger's promise, or a worker over time."""
    if settings.DEBUG:
        yield "DEBUG is True: a worker keeps every query in memory, and error pages show settings; set it to False"
    if not settings.USE_TZ:
        yield "USE_TZ is False: due times depend on the time zone of each host; set it to True"
    database = router.db_for_write(DurableTask)
    if database != DEFAULT_DB_ALIAS:
        yield (
            f"DATABASE_ROUTERS puts the ledger into database {database!r}: rolling back a transaction in "
            f"{DEFAULT_DB_ALIAS!r} would not roll back its tasks; route the app drumline to {DEFAULT_DB_ALIAS!r}"
        )
    yield from _reading_problems()
    if connections[database].vendor != "postgresql":
        yield (
            f"DATABASES[{database!r}] is {connections[database].vendor}: fine for development, but the guarantees "
            "are tested on PostgreSQL only; use django.db.backends.postgresql"
        )
    for alias in connections:
        values = connections[alias].settings_dict
        if connections[alias].vendor == "postgresql" and find_spec("psycopg") is None:
            yield (
                f"DATABASES[{alias!r}] is PostgreSQL and psycopg 3 is not installed, so that no worker can claim a task; "
                "pip install 'drumline[postgresql]'"
            )
        if values["CONN_MAX_AGE"] != 0 and not values["CONN_HEALTH_CHECKS"]:
            yield (
                f"DATABASES[{alias!r}] keeps connections without health checks: after a restart of the "
                'database tasks fail; add "CONN_HEALTH_CHECKS": True'
            )
    yield from _own_problems()


def _reading_problems() -> Iterator[str]:
    """Yield one line for each app whose rows are read where they are not written, as from a replica."""
    read = router.db_for_read(DurableTask)
    if read != DEFAULT_DB_ALIAS:
        yield (
            f"DATABASE_ROUTERS reads the ledger from database {read!r}: what was written to {DEFAULT_DB_ALIAS!r} just before "
            "may be missing there, as the tasks that a dead worker held; have db_for_read return "
            f"{DEFAULT_DB_ALIAS!r} for the app drumline"
        )
    if apps.is_installed("django_celery_results"):
        results = apps.get_model("django_celery_results", "TaskResult")
        read, written = router.db_for_read(results), router.db_for_write(results)
        if read != written:
            yield (
                f"DATABASE_ROUTERS reads task results from database {read!r} and writes them to {written!r}: where the "
                "first lags behind, the body of a chord misses its members' results and fails; have db_for_read return "
                f"{written!r} for the app django_celery_results"
            )


def _own_problems() -> Iterator[str]:
    """Yield one line for each of Drumline's own settings that has a value it cannot use, or that it does not know."""
    for name in dir(settings):
        if name in conf.TYPES:
            if wrong := _wrong(name, getattr(settings, name)):
                yield f"{name} is {wrong} in the Django settings"
        elif name.startswith(conf.PREFIX):
            yield f"{name} is not a Drumline setting and is ignored; {_meant(name)}"


def _wrong(name: str, value: Any) -> str:
    """Return the value, what is wrong with it, and what to set instead; empty if nothing is."""
    kind = conf.TYPES[name]
    if kind in {int, float}:
        if isinstance(value, str):
            # As the environment gives it.
            with suppress(ValueError):
                value = kind(value)
        # A bool is an int, and an int will do for a float.
        fits = not isinstance(value, bool) and isinstance(value, (int, kind)) and math.isfinite(value)
    else:
        fits = isinstance(value, kind)
    if not fits:
        counts = f", which counts as {bool(value)}" if kind in {bool, bool | None} else ""
        return f"{value!r}{counts}; set it to {VALUES[kind]}"
    if name in LEAST and value < LEAST[name][0]:
        least, why = LEAST[name]
        return f"{value!r}, {why}; set it to {least:g} or more"
    if kind is float and name not in LEAST and value <= 0:
        return f"{value!r}, which leaves no time; set it to more than 0"
    return ""


def _meant(name: str) -> str:
    """Return what to type instead of a setting that nothing reads."""
    # Without the prefix, which makes any two names alike.
    known = [setting.removeprefix(conf.PREFIX) for setting in conf.TYPES]
    if close := difflib.get_close_matches(name.removeprefix(conf.PREFIX), known, n=1):
        return f"did you mean {conf.PREFIX}{close[0]}?"
    return f"remove it, or give a setting of your own another prefix. Drumline's: {', '.join(sorted(conf.TYPES))}"


def pooling_problems() -> Iterator[str]:
    """Yield one line for each setting that breaks behind PgBouncer; raise DatabaseError when nothing answers."""
    said = conf.pgbouncer()
    for alias in connections:
        values, options = connections[alias].settings_dict, connections[alias].settings_dict["OPTIONS"]
        if connections[alias].vendor != "postgresql":
            continue
        try:
            pooled = _is_pooled(connections[alias])
        except OperationalError as error:
            if "unsupported startup parameter" not in str(error):
                raise
            yield (
                f"DATABASES[{alias!r}] has options that PgBouncer rejects ({str(error).strip()}): remove "
                '"options" from OPTIONS and set them for the role in PostgreSQL (ALTER ROLE … SET …)'
            )
            continue
        if not pooled:
            continue
        if said is None and alias == router.db_for_write(DurableTask):
            yield (
                f"DATABASES[{alias!r}] is reached through a pooler: set DRUMLINE_PGBOUNCER to True if it shares "
                "sessions between transactions (pool_mode transaction), and to False if each client keeps its own "
                "(pool_mode session)"
            )
        if said is not False and not values["DISABLE_SERVER_SIDE_CURSORS"]:
            yield (
                f"DATABASES[{alias!r}] is reached through a pooler: QuerySet.iterator() would lose its cursor between "
                'two reads; add "DISABLE_SERVER_SIDE_CURSORS": True'
            )
        if said is not False and options.get("prepare_threshold") is not None:
            yield (
                f"DATABASES[{alias!r}] prepares statements, which do not exist in a pooler's next session; remove "
                '"prepare_threshold" from OPTIONS'
            )


def _is_pooled(database: BaseDatabaseWrapper) -> bool:
    database.ensure_connection()
    with database.wrap_database_errors:
        return stands_before(database.connection)
