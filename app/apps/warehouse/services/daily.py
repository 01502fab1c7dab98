"""The figures of a day, made by a chain of three steps.

Only the run's id goes from step to step; what a step hands to the next one is in the database. Each step is one
transaction, which does the work and says that it is done: a step that runs again finds that, and leaves.
"""

from collections.abc import Callable
from datetime import date
from itertools import islice

import structlog
from celery import chain, signature
from django.db import transaction
from django.db.models import Count
from django.db.models.functions import ExtractHour
from django.utils import timezone

from apps.warehouse.models import DailyFigure, DailyRun, StagedEvent
from apps.warehouse.selectors import events_of

logger = structlog.get_logger(__name__)

State, Step = DailyRun.State, DailyRun.Step

# Each step's link of the chain, by name: the tasks' module imports this one.
LINKS = {
    Step.FETCH: "warehouse.fetch_data",
    Step.TRANSFORM: "warehouse.transform_data",
    Step.LOAD: "warehouse.load_to_warehouse",
}
# Rows that are in memory at once.
BATCH = 2000


class RunDoneError(Exception):
    """There is nothing to resume: every step is done."""


@transaction.atomic
def run_start(*, day: date) -> DailyRun:
    """Have the figures of a day made, or made again; a run that is under way is left alone."""
    run, created = DailyRun.objects.select_for_update().get_or_create(date=day, defaults={"started_at": timezone.now()})
    if not created:
        if run.state == State.RUNNING:
            logger.info("daily_run_under_way", run_id=run.pk, step=run.step)
            return run
        run.state, run.step, run.error = State.RUNNING, Step.FETCH, ""
        run.started_at, run.ended_at = timezone.now(), None
        run.save()
    _send(run)
    return run


@transaction.atomic
def run_resume(*, run_id: int) -> DailyRun:
    """Go on with the step that failed; raise RunDoneError when none is left.

    A run whose task was given up by an operator looks as if it went on, and may be resumed, too.
    """
    run = DailyRun.objects.select_for_update().get(pk=run_id)
    if run.state == State.DONE:
        raise RunDoneError(f"The run of {run.date} is done.")
    run.state, run.error, run.ended_at = State.RUNNING, "", None
    run.save()
    _send(run)
    return run


def _send(run: DailyRun) -> None:
    """Send the chain from the run's step on, as a part of the transaction: the ledger keeps it with the run."""
    left = list(LINKS.values())[list(LINKS).index(Step(run.step)) :]
    # A link that fails for good ends the chain, whatever ended it: an error, a time limit, the death of its process.
    failed = signature("warehouse.fail_run", kwargs={"run_id": run.pk})
    chain(*(signature(name).on_error(failed) for name in left)).apply_async((run.pk,))


@transaction.atomic
def run_step(*, run_id: int, step: DailyRun.Step) -> None:
    """Do one step of a run if that is where it stands."""
    run = DailyRun.objects.select_for_update().get(pk=run_id)
    if run.state == State.DONE or run.step != step:
        logger.info("daily_step_skipped", run_id=run_id, step=step, stands_at=run.step, state=run.state)
        return
    WORK[step](run)
    run.state, run.error, run.ended_at = State.RUNNING, "", None
    if step == Step.LOAD:
        run.state, run.ended_at = State.DONE, timezone.now()
    else:
        run.step = Step.TRANSFORM if step == Step.FETCH else Step.LOAD
    run.save()
    logger.info("daily_step_done", run_id=run_id, step=step)


def run_fail(*, run_id: int, error: str) -> None:
    """Note why a run stopped; where, it knows itself."""
    stopped = DailyRun.objects.filter(pk=run_id).exclude(state=State.DONE)
    stopped.update(state=State.FAILED, error=error, ended_at=timezone.now())
    logger.error("daily_run_failed", run_id=run_id, error=error)


def _fetch(run: DailyRun) -> None:
    """Stage what happened on the day; personal data stays where it is."""
    run.events.all().delete()
    events = events_of(day=run.date)
    while batch := list(islice(events, BATCH)):
        StagedEvent.objects.bulk_create(StagedEvent(run=run, measure=measure, at=at) for measure, at in batch)


def _transform(run: DailyRun) -> None:
    """Count the staged events by hour."""
    by_hour = run.events.annotate(hour=ExtractHour("at")).values_list("measure", "hour").order_by("measure", "hour")
    run.figures = [list(figure) for figure in by_hour.annotate(value=Count("pk"))]


def _load(run: DailyRun) -> None:
    """Put the day's figures in the place of those that it had."""
    DailyFigure.objects.filter(date=run.date).delete()
    DailyFigure.objects.bulk_create(
        DailyFigure(date=run.date, measure=measure, hour=hour, value=value) for measure, hour, value in run.figures
    )
    run.events.all().delete()


WORK: dict[DailyRun.Step, Callable[[DailyRun], None]] = {
    Step.FETCH: _fetch,
    Step.TRANSFORM: _transform,
    Step.LOAD: _load,
}
