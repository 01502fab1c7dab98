"""What is reported to Sentry, by its own protocol to a server on loopback."""

import json
import re
import subprocess
import sys
import time
from unittest import mock

import pytest
import sentry_sdk
from billiard.exceptions import WorkerLostError
from celery import current_app, shared_task, signals
from celery.app.trace import build_tracer
from celery.exceptions import NotRegistered
from django.core.signals import got_request_exception
from django.test import Client
from structlog.contextvars import clear_contextvars

from config import env, sentry
from drumline.message import Message
from drumline.models import DurableTask
from drumline.relay import announcements
from tests.app.config.test_settings import APP, PRODUCTION
from tests.counterparts.sentry import sentry_server

SECRET = "correct horse battery staple"


@pytest.fixture
def server(settings):
    with sentry_server() as server:
        settings.SENTRY_DSN = server.dsn
        yield server


@pytest.fixture
def reported(server):
    """Report from this process, and return what arrived."""
    kept = signals.task_failure.receivers, got_request_exception.receivers
    signals.task_failure.receivers, got_request_exception.receivers = [], []
    sentry.start()
    clear_contextvars()

    def events():
        sentry_sdk.flush(timeout=10)
        return server.events

    yield events
    sentry_sdk.get_client().close()
    sentry_sdk.get_global_scope().set_client(None)
    signals.task_failure.receivers, got_request_exception.receivers = kept
    for signal in (signals.worker_process_init, signals.worker_process_shutdown):
        signal.receivers = [pair for pair in signal.receivers if "sentry" not in str(pair[1])]


@shared_task(name="tests.charge")
def charge(user_id, password, card_number=None):  # noqa: ARG001  it is about their names
    raise RuntimeError(f"no money for ada@example.com with 4242 4242 4242 4242, {user_id} said")


def fail(task, *args, **kwargs):
    """Fail as in a worker."""
    carried = {"request_id": "from-nginx"}
    request = {"id": "the-task-id", "args": args, "kwargs": kwargs, "__django_structlog__": carried}
    build_tracer(task.name, task, app=current_app)("the-task-id", args, kwargs, request)


@pytest.mark.django_db
def test_a_failed_task_is_reported_with_task_id_and_scrubbed_arguments(reported):
    fail(charge, 7, SECRET, card_number=4242424242424242)

    [event] = reported()
    assert event["transaction"] == "tests.charge"
    assert event["tags"] == {"task": "tests.charge", "task_id": "the-task-id", "request_id": "from-nginx"}
    assert event["extra"]["arguments"] == {"user_id": 7, "password": "(hidden)", "card_number": "(hidden)"}
    [error] = event["exception"]["values"]
    assert (error["type"], error["value"]) == (
        "RuntimeError",
        "no money for (e-mail) with (card number), 7 said",
    )
    assert error["stacktrace"]["frames"][-1]["function"] == "charge"
    assert event["fingerprint"] == ["{{ default }}", "tests.charge"]
    sent = json.dumps(event)
    assert SECRET not in sent
    # The source line is sent as it is; ids are random, and may hold any four digits.
    assert not re.search(r"4242 ?4242", sent.replace("4242 4242 4242 4242, {user_id}", ""))
    assert '"vars"' not in sent


@pytest.mark.django_db
def test_arguments_that_do_not_fit_are_reported_as_they_came(reported):
    fail(charge, 1, 2, 3, 4, 5)
    assert reported()[0]["extra"]["arguments"] == {"args": [1, 2, 3, 4, 5], "kwargs": {}}


@pytest.mark.django_db
def test_a_dead_letter_that_no_process_could_report_arrives_too(reported, monkeypatch):
    monkeypatch.setattr("drumline.sending.enqueue.publish", lambda _: None)
    charge.apply_async((7, SECRET), task_id="11111111-2222-4333-8444-555555555555")
    row = DurableTask.objects.get()
    announcements.announce_failure(row, WorkerLostError("its worker died"))
    unknown = Message.loads(row.message)
    unknown.headers["task"] = row.name = "tests.gone"
    row.message = unknown.dumps()
    announcements.announce_failure(row, NotRegistered("tests.gone"))

    lost, gone = reported()
    assert lost["tags"] == {"task": "tests.charge", "task_id": "11111111-2222-4333-8444-555555555555"}
    assert lost["extra"]["arguments"] == {"user_id": 7, "password": "(hidden)"}
    assert gone["tags"]["task"] == "tests.gone"
    assert gone["exception"]["values"][0]["type"] == "NotRegistered"


@pytest.mark.django_db
def test_a_request_that_fails_is_reported_without_what_it_carried(reported):
    body = {"email": "ada@example.com", "password": SECRET}
    with mock.patch("apps.users.services.user_create", side_effect=RuntimeError("broken")):
        Client(raise_request_exception=False).post("/api/users/?x=1", body, content_type="application/json")

    [event] = reported()
    assert event["transaction"] == "POST /api/users/"
    assert event["tags"]["request_id"]
    assert "request" not in event
    assert SECRET not in json.dumps(event)


def test_a_request_that_failed_before_it_had_a_view_is_reported_by_its_path(reported, rf):
    try:
        {}["no view"]
    except LookupError:
        sentry.report_request(rf.get("/nowhere/"))
    assert reported()[0]["transaction"] == "GET /nowhere/"


@pytest.mark.django_db
def test_a_process_that_the_pool_forked_reports_with_a_queue_of_its_own(reported):
    before = sentry_sdk.get_client()
    signals.worker_process_init.send(sender=None)
    assert sentry_sdk.get_client() is not before
    fail(charge, 7, SECRET)
    assert len(reported()) == 1


@pytest.mark.parametrize("answers", [False, True], ids=["silent", "failing"])
def test_a_sentry_that_is_away_costs_a_task_nothing_and_the_end_a_second(server, reported, answers):
    server.statuses = [500] * 1000
    if not answers:
        server.answers.clear()
    started = time.monotonic()
    for _ in range(300):
        sentry.report_task(charge, "id", RuntimeError("x"), [1, 2], {})
    assert time.monotonic() - started < 5
    started = time.monotonic()
    signals.worker_process_shutdown.send(sender=None)
    assert time.monotonic() - started < 3
    server.answers.set()
    assert reported() == []


def test_a_dsn_that_is_none_is_said_so(settings):
    settings.SENTRY_DSN = "https://sentry.example.com"
    with pytest.raises(env.EnvironmentProblemError, match="SENTRY_DSN is not the DSN of a Sentry project"):
        sentry.start()


@pytest.mark.parametrize("there", [True, False])
def test_every_process_that_runs_django_reports_if_it_has_a_dsn(server, there):
    code = "import django, sys; django.setup(); print('sentry_sdk' in sys.modules); 1 / 0"
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=APP,
        env={**PRODUCTION, "SENTRY_DSN": server.dsn if there else ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.stdout.strip(), result.returncode) == (str(there), 1)
    assert result.stderr.strip().endswith("ZeroDivisionError: division by zero")
    assert [event["exception"]["values"][0]["type"] for event in server.events] == ["ZeroDivisionError"] * there
