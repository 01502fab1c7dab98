"""What the project's Django settings would lose or leave open in workers; `check --deploy` has the web's side."""

from collections.abc import Iterator

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connections, router

from drumline.models import DurableTask


def django_problems() -> Iterator[str]:
    """Yield one line for each setting that breaks the ledger's promise, or a worker over time."""
    if settings.DEBUG:
        yield "DEBUG is True: a worker keeps every query that it makes, and errors show settings; set it to False"
    if not settings.USE_TZ:
        yield "USE_TZ is False: due times would depend on each host's own time zone; set it to True"
    database = router.db_for_write(DurableTask)
    if database != DEFAULT_DB_ALIAS:
        yield (
            f"DATABASE_ROUTERS puts the ledger into database {database!r}: a transaction that is rolled back in "
            f"{DEFAULT_DB_ALIAS!r} would not take its tasks with it; route the app drumline to {DEFAULT_DB_ALIAS!r}"
        )
    if connections[database].vendor != "postgresql":
        yield (
            f"DATABASES[{database!r}] is {connections[database].vendor}: good for development, but the promises are "
            "tested on PostgreSQL only; use django.db.backends.postgresql"
        )
    for alias in connections:
        values = connections[alias].settings_dict
        if values["CONN_MAX_AGE"] != 0 and not values["CONN_HEALTH_CHECKS"]:
            yield (
                f"DATABASES[{alias!r}] keeps connections without looking whether they still work: after a restart of "
                'the database tasks fail; add "CONN_HEALTH_CHECKS": True'
            )
