"""Chords that neither start their body early nor lose it, on the results that Django keeps.

django-celery-results counts the members down and then sends the body: a member that runs a second time is counted
twice, and a process that dies in between leaves a chord that never ends. Here the count is checked against the results
before it is believed, and the body's row is written in the transaction that ends the counting.
"""

from collections.abc import Iterator
from functools import wraps
from typing import Any

from celery import states
from celery.canvas import maybe_signature
from celery.result import ResultSet
from django.db import router, transaction
from django_celery_results.backends.database import DatabaseBackend, trigger_callback
from django_celery_results.models import ChordCounter, TaskResult  # type: ignore[attr-defined]  # incomplete stubs

from drumline.logs import get_logger

logger = get_logger(__name__)


def install() -> None:
    """Count the members of every chord so."""
    DatabaseBackend.on_chord_part_return = wraps(DatabaseBackend.on_chord_part_return)(on_chord_part_return)


def on_chord_part_return(backend: Any, request: Any, _state: str, _result: Any, **_: Any) -> None:
    """Count a member that has ended, once or again; send the body after the last one."""
    if not request.group or not request.id:
        return
    with transaction.atomic(using=router.db_for_write(ChordCounter)):
        counter = ChordCounter.objects.select_for_update().filter(group_id=request.group).first()
        if counter is None:
            logger.info("chord_already_ended", group=request.group, task_id=request.id)
            return
        members = counter.group_result(app=backend.app)
        counter.count = max(counter.count - 1, 0) or _unfinished(members)
        if counter.count:
            counter.save(update_fields=["count"])
            return
        counter.delete()
        trigger_callback(backend.app, maybe_signature(request.chord, app=backend.app), members)


def _unfinished(members: Any) -> int:
    ids = set(_ids(members))
    # The last of them was written just now.
    results = TaskResult.objects.using(router.db_for_write(TaskResult))
    return len(ids) - results.filter(task_id__in=ids, status__in=states.READY_STATES).count()


def _ids(result: Any) -> Iterator[str]:
    if isinstance(result, ResultSet):
        for member in result.results or ():
            yield from _ids(member)
    else:
        yield result.id
