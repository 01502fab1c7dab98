"""What would not run on the hosts, and which guarantees a project without the ledger does not have."""

from collections.abc import Iterator

from celery import Celery
from django.db import DatabaseError, InterfaceError

from drumline.hosting import project
from drumline.preflight.celery_settings import settings_notes, settings_problems
from drumline.preflight.migrations import breaking_migrations
from drumline.preflight.routes import routed_queues

# Guarantee, and how it is lost without the ledger.
MISSING = (
    "a task sent in a transaction that rolls back runs all the same, and one sent after it is lost if the broker is down",
    "a killed worker's tasks run again only after the broker's visibility timeout, and Redis loses some of them",
    "a task that fails for good leaves no dead letter to look at and to requeue",
    "beat may send a run twice, or lose it, when it is killed or the broker is away",
)


def run(served: list[str]) -> Iterator[str]:
    """Print a line for each missing guarantee and each breaking migration; yield one for each thing that would not run."""
    app = project.celery_application()
    app.loader.import_default_modules()
    yield from unserved(app, served)
    for line in MISSING:
        print(f"missing: {line}")
    for line in (*settings_problems(app), *settings_notes(app)):
        print(f"missing: {line}")
    print(
        "With app_ledger: true Drumline adds the ledger and these settings at deploy; the project's code stays as it is."
    )
    try:
        for line in breaking_migrations():
            print(f"migration: {line}")
    except (DatabaseError, InterfaceError) as error:
        print(f"note: the database could not be checked: {error}".strip())


def unserved(app: Celery, served: list[str]) -> Iterator[str]:
    """Yield one line for each queue that is sent to and has no workers."""
    routed = routed_queues(app)
    yield from routed.problems
    for queue in sorted(routed.queues.keys() - set(served)):
        senders = ", ".join(routed.queues[queue])
        yield (
            f"queue {queue} has no workers, but {senders} sends to it. Add it to app_queues, with queue: {queue} if units "
            "cannot have its name, or change the route"
        )
