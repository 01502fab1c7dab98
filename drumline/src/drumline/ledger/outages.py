"""Which errors of the database are its own, and which are about what it was given."""

import psycopg
from django.db import InterfaceError, OperationalError

AWAY = (
    OperationalError,
    InterfaceError,
    psycopg.OperationalError,
    psycopg.InterfaceError,
    # A server that became a standby.
    psycopg.errors.ReadOnlySqlTransaction,
    # A prepared statement that this connection does not have, or whose table has changed: a new connection helps.
    psycopg.errors.InvalidSqlStatementName,
    psycopg.NotSupportedError,
)
# "Program limit exceeded": an operational error for psycopg, and one of what was sent (a row too wide, a text too long).
LIMITS = "54"


def is_unavailable(error: BaseException) -> bool:
    """Return whether the same call may succeed later, when the database answers again.

    Any other error (DataError, IntegrityError, ProgrammingError, one of Python) would come again.
    """
    # Django's error stands for the driver's.
    original = error.__cause__ if isinstance(error.__cause__, psycopg.Error) else error
    return isinstance(original, AWAY) and not (getattr(original, "sqlstate", None) or "").startswith(LIMITS)
