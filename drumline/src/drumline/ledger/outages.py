"""Which errors of the database are its own, and which are about what it was given.

They are Django's everywhere: what talks to the driver itself does so within `connection.wrap_database_errors`.
"""

from django.db import InterfaceError, NotSupportedError, OperationalError

AWAY = (
    OperationalError,
    InterfaceError,
    # A prepared statement whose table has changed: a new connection helps.
    NotSupportedError,
)
AWAY_STATES = {
    # A server that became a standby.
    "25006",
    # A prepared statement that this connection does not have.
    "26000",
}
# "Program limit exceeded": an operational error for psycopg, and one of what was sent (a row too wide, a text too long).
LIMITS = "54"


def is_unavailable(error: BaseException) -> bool:
    """Return whether the same call may succeed later, when the database answers again.

    Any other error (DataError, IntegrityError, ProgrammingError, one of Python) would come again.
    """
    state = getattr(error.__cause__, "sqlstate", None) or ""
    return (isinstance(error, AWAY) or state in AWAY_STATES) and not state.startswith(LIMITS)
