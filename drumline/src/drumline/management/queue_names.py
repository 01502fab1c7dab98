"""Names of queues that an operator types."""

import difflib

from django.core.management.base import CommandError

from drumline.application import application
from drumline.ledger.selectors import queue_states, served_queues
from drumline.preflight.routes import declared_queues, may_be_sent_to


def queue_to_send_to(name: str) -> str:
    """Return the name of a queue that tasks may be sent to; raise CommandError for any other."""
    if not may_be_sent_to(application(), name):
        declared = ", ".join(sorted(declared_queues(application())))
        raise CommandError(f"There is no queue {name!r}. Declared queues: {declared}")
    return name


def known_queue(name: str) -> str:
    """Return the name of a queue that is declared or consumed, or has open tasks or dead letters; raise CommandError for any other."""
    known = declared_queues(application())
    if name in known:
        return name
    # What was declared once may still hold something.
    known |= {*queue_states(), *served_queues()}
    if name in known:
        return name
    close = difflib.get_close_matches(name, known, n=1)
    meant = f" Did you mean {close[0]}?" if close else ""
    raise CommandError(
        f"There is no queue {name!r}, and no task is in one of that name.{meant} Known queues: {', '.join(sorted(known))}"
    )
