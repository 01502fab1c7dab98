"""A worker without a broker: it runs what the ledger holds, as messages, with chains, chords and errbacks."""

import json

import pytest
from celery import current_app
from celery.app.trace import build_tracer
from structlog.contextvars import clear_contextvars

from drumline.message import Message
from drumline.models import DurableTask


@pytest.fixture(autouse=True)
def _no_broker_anywhere(no_broker):
    """Every test of this directory runs the tasks itself."""


@pytest.fixture(autouse=True)
def _no_leftover_of_a_tasks_log_lines():
    yield
    clear_contextvars()


@pytest.fixture
def waiting(db):  # noqa: ARG001  it opens the database
    """The names of the tasks that wait."""
    queued = DurableTask.objects.filter(state=DurableTask.State.QUEUED).order_by("created_at", "name")
    return lambda: list(queued.values_list("name", flat=True))


@pytest.fixture
def run(db):  # noqa: ARG001  it opens the database
    """Run the tasks of one name that wait, and close their rows."""

    def run(name):
        for row in DurableTask.objects.filter(state=DurableTask.State.QUEUED, name=name):
            message = Message.loads(row.message)
            args, kwargs, embedded = json.loads(message.body)
            task = current_app.tasks[row.name]
            request = {**message.headers, **embedded, "args": args, "kwargs": kwargs, "delivery_info": {}}
            build_tracer(task.name, task, app=current_app)(message.headers["id"], args, kwargs, request)
            DurableTask.objects.filter(pk=row.pk).update(state=DurableTask.State.FINISHED)

    return run


@pytest.fixture
def run_all(run, waiting):
    """Run until nothing waits."""

    def run_all():
        while names := waiting():
            run(names[0])

    return run_all
