"""Procrastinate on PostgreSQL, in Django."""

from collections.abc import Iterable

import work
from procrastinate.contrib.django import app

from adapters import MANAGE

NAME = "Procrastinate"
PACKAGES = ["procrastinate"]
KEEPS = "PostgreSQL"
BACK = "heartbeat 30 s (default), then its periodic task each minute (its example: every ten)"
SAFE = (
    "a periodic task that retries stalled jobs; "
    "https://procrastinate.readthedocs.io/en/stable/howto/production/retry_stalled_jobs.html"
)
BESIDE: list[list[str]] = []

perform = app.task(name="perform")(work.perform)


@app.periodic(cron="* * * * *")
@app.task(queueing_lock="retry_stalled_jobs", pass_context=True)
async def retry_stalled_jobs(context: object, timestamp: int) -> None:  # noqa: ARG001  it passes them by name
    """As its documentation has it."""
    for job in await app.job_manager.get_stalled_jobs():
        await app.job_manager.retry_job(job)


def workers(queue: str, slots: int) -> list[list[str]]:
    # Two processes run more Python than one with --concurrency 2.
    return [[*MANAGE, "procrastinate", "worker", "--queues", queue, "--concurrency", "1"]] * slots


def enqueue(body: str, value: float, queue: str) -> None:
    perform.configure(queue=queue).defer(body=body, value=value)


def enqueue_many(body: str, values: Iterable[float], queue: str) -> None:
    perform.configure(queue=queue).batch_defer(*({"body": body, "value": value} for value in values))
