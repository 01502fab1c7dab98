"""PgBouncer: what one transaction sets, prepares or listens to is not there for the next one."""

from importlib import import_module
from typing import TYPE_CHECKING

from django.db import connection

from drumline import conf
from drumline.logs import get_logger

if TYPE_CHECKING:
    import psycopg

logger = get_logger(__name__)

_found: bool | None = None


def is_pooled() -> bool:
    """Return whether a pooler stands before Django's default database; ask it once in a process.

    Raise DatabaseError when the database does not answer.
    """
    global _found  # noqa: PLW0603  for as long as the process lives
    said = conf.pgbouncer()
    if said is not None:
        return said
    if _found is None:
        driver = import_module("psycopg")
        params = connection.get_connection_params() | {"cursor_factory": driver.Cursor, "autocommit": True}
        with connection.wrap_database_errors, driver.connect(**params) as asked:
            _found = stands_before(asked)
        if _found:
            logger.warning(
                "database_pooled",
                hint="set DRUMLINE_PGBOUNCER to True if sessions are shared between transactions, otherwise to False",
            )
    return _found


def stands_before(asked: "psycopg.Connection[psycopg.rows.TupleRow]") -> bool:
    """Return whether a pooler answers on this connection: it has a process number of its own for it."""
    row = asked.execute("SELECT pg_backend_pid()").fetchone()
    return row is None or row[0] != asked.info.backend_pid
