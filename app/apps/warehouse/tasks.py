"""Tasks of the warehouse domain."""

import datetime as dt
from typing import Any

from celery import shared_task
from django.db import InterfaceError, OperationalError

from apps.warehouse.models import DailyRun
from apps.warehouse.selectors import yesterday
from apps.warehouse.services import daily, imports

Step = DailyRun.Step

# The database is away, or two transactions waited for each other.
RETRY: dict[str, Any] = {
    "autoretry_for": (OperationalError, InterfaceError),
    "max_retries": 5,
    "retry_backoff": True,
    "retry_backoff_max": 600,
    "retry_jitter": True,
}


@shared_task(name="warehouse.run_day", **RETRY)
def run_day(date: str | None = None) -> int:
    """Make the figures of a day (2026-11-23), yesterday's if none is named; return the run's id."""
    return daily.run_start(day=dt.date.fromisoformat(date) if date else yesterday()).pk


@shared_task(name="warehouse.fetch_data", **RETRY)
def fetch_data(run_id: int) -> int:
    """Stage what happened on the run's day; return the run's id, for the next link."""
    daily.run_step(run_id=run_id, step=Step.FETCH)
    return run_id


@shared_task(name="warehouse.transform_data", **RETRY)
def transform_data(run_id: int) -> int:
    """Make figures of what is staged; return the run's id, for the next link."""
    daily.run_step(run_id=run_id, step=Step.TRANSFORM)
    return run_id


@shared_task(name="warehouse.load_to_warehouse", **RETRY)
def load_to_warehouse(run_id: int) -> int:
    """Put the figures in the place of those that the day had; return the run's id."""
    daily.run_step(run_id=run_id, step=Step.LOAD)
    return run_id


@shared_task(name="warehouse.fail_run")
def fail_run(_request: Any, error: BaseException, _traceback: Any, run_id: int) -> None:
    """Note on the run why a link failed. An errback: Celery calls it where the failure is seen, and sends no message."""
    daily.run_fail(run_id=run_id, error=_words(error))


@shared_task(name="warehouse.split_import", **RETRY)
def split_import(import_id: int) -> None:
    """Cut an upload into chunks, and send the chord that reads them."""
    imports.import_split(import_id=import_id)


@shared_task(name="warehouse.process_chunk", **RETRY)
def process_chunk(chunk_id: int) -> None:
    """Stage the rows of a chunk."""
    imports.chunk_process(chunk_id=chunk_id)


@shared_task(name="warehouse.aggregate_results", **RETRY)
def aggregate_results(import_id: int) -> None:
    """Show what all chunks have staged."""
    imports.import_load(import_id=import_id)


@shared_task(name="warehouse.fail_import")
def fail_import(
    _request: Any, error: BaseException, _traceback: Any, import_id: int, chunk_id: int | None = None
) -> None:
    """Note on the import why a task failed. An errback, as `fail_run` is."""
    imports.import_fail(import_id=import_id, error=_words(error), chunk_id=chunk_id)


@shared_task(name="warehouse.clean_import", **RETRY)
def clean_import(import_id: int) -> None:
    """Delete what an import that has ended needs no more."""
    imports.import_clean(import_id=import_id)


@shared_task(name="warehouse.cleanup_imports", **RETRY)
def cleanup_imports() -> int:
    """Fail imports that do not end, and delete those that failed long ago; return how many there were."""
    return imports.imports_clean()


def _words(error: BaseException) -> str:
    return str(error) if isinstance(error, imports.ChunkError) else f"{type(error).__name__}: {error}"
