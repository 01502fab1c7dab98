"""Ends that no worker reports to Celery, reported by the relay: results, chords, errbacks and signals.

A task that expired, was discarded by a person, or whose worker died ends in a transaction of the ledger. An
`Announcement` is written in that transaction, and is deleted in the one that makes the end known: a relay that dies in
between leaves it to the next. With results in the ledger's own database, each end is announced exactly once; with
another result backend, a relay that dies at that moment may announce it twice.
"""

from typing import Any
from uuid import UUID

from billiard.einfo import ExceptionInfo
from billiard.exceptions import WorkerLostError
from celery import signals, states
from celery.app.task import Context
from celery.exceptions import NotRegistered, TaskRevokedError
from django.db import transaction
from kombu.serialization import loads

from drumline import storable
from drumline.application import application
from drumline.broker.publishing import RefusedError
from drumline.ledger.locking import skipping_locked
from drumline.ledger.outages import is_unavailable
from drumline.ledger.selectors import ledger_rows
from drumline.logs import get_logger
from drumline.message import Message
from drumline.models import Announcement, DurableTask

logger = get_logger(__name__)

State = DurableTask.State


class EndRefusedError(RuntimeError):
    """The ledger could not store how a run ended, as a retry with a header that no message can hold."""


class ResultsUnavailableError(Exception):
    """The result backend does not answer; the announcements wait."""


def announce_ends(*, limit: int = 200) -> int:
    """Announce what waits to be announced; return how many ends that were, at most `limit`.

    Raise ResultsUnavailableError, or Django's error when the database is away. What cannot be announced for another
    reason is logged, once.
    """
    ids = list(Announcement.objects.values_list("task_id", flat=True)[:limit])
    for task_id in ids:
        _announce_once(task_id)
    return len(ids)


@transaction.atomic
def _announce_once(task_id: UUID) -> None:
    mine = skipping_locked(Announcement.objects.filter(task_id=task_id)).first()
    # Another relay has it.
    if mine is None:
        return
    # Requeued or replaced in the meantime: then it has not ended.
    row = ledger_rows().filter(id=task_id, state__in=(State.DEAD, State.DISCARDED)).first()
    if row is not None:
        try:
            with transaction.atomic():
                _announce(row)
        except _backend_errors() as error:
            raise ResultsUnavailableError(storable.error_text(error)) from error
        except Exception as error:
            if is_unavailable(error):
                raise
            logger.exception("end_not_announced", task=row.name, task_id=str(row.id))
    mine.delete()


def _backend_errors() -> tuple[type[Exception], ...]:
    return (OSError, *getattr(application().backend, "connection_errors", ()))


def _announce(row: DurableTask) -> None:
    what = row.history[-1]["what"]
    if row.state == State.DISCARDED:
        announce_revoked(row, what, expired=what == "expired")
    elif what == "unknown":
        announce_failure(row, NotRegistered(row.name))
    elif what == "refused":
        announce_failure(row, RefusedError(row.error))
    else:
        announce_failure(row, WorkerLostError(row.error) if what == "lost" else EndRefusedError(row.error))


def announce_failure(row: DurableTask, error: Exception) -> None:
    """Do what Celery does for a failed task: store the result, count it for its chord, call errbacks, send the signal."""
    task, backend, request, store = _parts(row)
    backend.mark_as_failure(request.id, error, request=request, store_result=store)
    signals.task_failure.send(
        sender=task,
        task_id=request.id,
        exception=error,
        args=request.args,
        kwargs=request.kwargs,
        traceback=None,
        einfo=_einfo(error),
    )


def announce_revoked(row: DurableTask, reason: str, *, expired: bool) -> None:
    """Do what Celery does for a revoked task: store the result, count it for its chord, send the signal.

    As in Celery, the task's own errbacks are not called; those of its chord are. What a chain has behind the task is
    revoked with it, which Celery leaves waiting.
    """
    task, backend, request, store = _parts(row)
    error = TaskRevokedError(reason)
    backend.mark_as_failure(
        request.id, error, request=request, store_result=store, call_errbacks=False, state=states.REVOKED
    )
    signals.task_revoked.send(sender=task, request=request, terminated=False, signum=None, expired=expired)


def _parts(row: DurableTask) -> tuple[Any, Any, Context, bool]:
    """Return the task, None when this process does not know it, with its backend, request, and need of a result."""
    message = Message.loads(row.message)
    accept = {message.content_type}
    args, kwargs, embed = loads(message.body, message.content_type, message.content_encoding, accept=accept)
    # Celery asks a request without delivery information whether it is eager.
    request = Context(
        {**message.headers, **message.properties, **(embed or {})}, args=args, kwargs=kwargs, delivery_info={}
    )
    task = application().tasks.get(message.headers["task"])
    ignored = message.headers.get("ignore_result")
    if ignored is None:
        ignored = getattr(task, "ignore_result", False)
    store = not ignored or getattr(task, "store_errors_even_if_ignored", False)
    return task, task.backend if task is not None else application().backend, request, store


def _einfo(error: Exception) -> ExceptionInfo:
    try:
        raise error
    except type(error):
        return ExceptionInfo()
