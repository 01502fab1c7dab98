"""Django's own tasks on the ledger: the contract of `django.tasks`, and what the ledger adds to it."""

import asyncio
import json
import subprocess
import sys
import threading
import uuid
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from asgiref.sync import async_to_sync
from celery import current_app
from celery.app.trace import build_tracer
from celery.exceptions import NotRegistered, TaskRevokedError, TimeLimitExceeded, WorkerLostError
from django.core.exceptions import SynchronousOnlyOperation
from django.db import transaction
from django.dispatch import Signal
from django.test import override_settings
from django.urls import reverse
from django.utils import timezone
from kombu.serialization import loads

from drumline import discard, requeue
from drumline.ledger import ends, recovery
from drumline.ledger.current import CurrentRun
from drumline.ledger.store import RunKey
from drumline.message import Message
from drumline.models import DurableTask
from drumline.preflight.queues import serving_problems
from drumline.relay.announcements import announce_ends
from drumline.worker import claims as claiming
from drumline.worker.identity import current_id

framework = pytest.importorskip("drumline.tasks_backend.framework")

from testproject import background  # noqa: E402  it needs the framework, too

from drumline.tasks_backend import LedgerBackend, carrier  # noqa: E402
from drumline.tasks_backend.enqueue import broker_priority  # noqa: E402
from drumline.tasks_backend.results import EXCEPTIONS, result_by_id  # noqa: E402

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("no_broker")]

State = DurableTask.State
READY, RUNNING, SUCCESSFUL, FAILED = (
    framework.TaskResultStatus[name] for name in ("READY", "RUNNING", "SUCCESSFUL", "FAILED")
)


def default_backend() -> LedgerBackend:
    """Return the backend by the settings of this moment."""
    return background.add.get_backend()


def backend(**params) -> dict:
    return {"default": {"BACKEND": "drumline.tasks_backend.LedgerBackend", **params}}


@pytest.fixture(autouse=True)
def _queues():
    with override_settings(TASKS=backend(QUEUES=["default", "high"])):
        yield


class Heard:
    """What a signal of the framework said, as the results were at that moment."""

    def __init__(self, signal: Signal) -> None:
        self.said: list[tuple[type, str, str]] = []
        self.signal = signal
        signal.connect(self.hear)

    def hear(self, sender, task_result, **_) -> None:
        self.said.append((sender, task_result.id, task_result.status))


@pytest.fixture
def heard():
    signals = {name: Heard(getattr(framework, f"task_{name}")) for name in ("enqueued", "started", "finished")}
    yield SimpleNamespace(**signals)
    for each in signals.values():
        each.signal.disconnect(each.hear)


@pytest.fixture
def celery(monkeypatch):
    """Change a setting of Celery."""

    def change(**settings) -> None:
        for name, value in settings.items():
            monkeypatch.setitem(current_app.conf.changes, f"CELERY_{name.upper()}", value)

    return change


@pytest.fixture
def work(monkeypatch, transactional_db):  # noqa: ARG001  claims have a connection of their own
    """Run what waits, as a worker's process does."""
    with monkeypatch.context() as alone:
        alone.setattr(threading, "Thread", lambda **_: SimpleNamespace(start=lambda: None))
        claims = claiming.Claims()
    monkeypatch.setattr(claiming, "claims", lambda: claims)
    monkeypatch.setattr("drumline.celery_hooks.tracer.claims", lambda: claims)
    carrier_task = current_app.tasks[carrier.CARRIER]
    trace = build_tracer(carrier_task.name, carrier_task, app=current_app)

    def work() -> None:
        for row in DurableTask.objects.filter(state=State.QUEUED, due_at__lte=timezone.now()):
            message = Message.loads(row.message)
            args, kwargs, _ = loads(message.body, message.content_type, message.content_encoding)
            carrier_task.__trace__ = trace
            request = {**message.headers, "hostname": "celery@test", "delivery_info": {"routing_key": row.queue}}
            carrier_task.__trace__(message.headers["id"], args, kwargs, request)
            claims.flush()

    yield work
    carrier_task.__trace__ = None
    claims._store.reconnect()


def row_of(result) -> DurableTask:
    return DurableTask.objects.get(id=result.id)


# Enqueueing


@pytest.mark.parametrize("task", [background.nothing, background.add_slowly], ids=["function", "coroutine"])
def test_enqueueing_writes_one_row_with_one_query_and_returns_a_result_that_is_ready(
    task, heard, django_assert_num_queries
):
    with django_assert_num_queries(1):
        result = task.enqueue(1, 2)

    assert (result.task, result.status, result.args, result.kwargs) == (task, READY, [1, 2], {})
    assert (result.attempts, result.errors, result.is_finished, result.backend) == (0, [], False, "default")
    assert result.started_at is result.last_attempted_at is result.finished_at is None
    with pytest.raises(ValueError, match="not finished"):
        _ = result.return_value
    assert heard.enqueued.said == [(LedgerBackend, result.id, READY)]
    row = row_of(result)
    assert (row.name, row.queue, row.state) == (task.module_path, "default", State.QUEUED)


def test_the_same_from_async_code(transactional_db):  # noqa: ARG001  it is written by another thread
    async def view():
        result = await background.add.aenqueue(1, start=2)
        assert await background.add.aget_result(result.id) == result
        await result.arefresh()
        with pytest.raises(framework.TaskResultDoesNotExist):
            await background.add.aget_result(str(uuid.uuid4()))
        return result

    result = async_to_sync(view)()

    assert (result.status, result.args, result.kwargs) == (READY, [1], {"start": 2})


@pytest.mark.django_db(transaction=True)
def test_async_code_that_forgets_to_wait_reads_what_to_type():
    async def view():
        background.add.enqueue(1)

    with pytest.raises(SynchronousOnlyOperation, match=r"Use: await add\.aenqueue\(…\)"):
        asyncio.run(view())


def test_a_task_enqueued_in_a_transaction_is_sent_with_it_and_never_without_it():
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        background.add.enqueue(1)
        _ = 1 / 0
    assert not DurableTask.objects.exists()

    with transaction.atomic():
        result = background.add.enqueue(1)
        assert background.add.get_result(result.id) == result


def test_what_using_asks_for_is_in_the_row_and_in_the_result_that_is_read():
    later = timezone.now() + timedelta(hours=1)
    result = background.nothing.using(priority=-100, queue_name="high", run_after=later).enqueue()

    row = row_of(result)
    assert (row.queue, row.priority, row.due_at, row.published_at) == ("high", 9, later, None)
    read = background.nothing.get_result(result.id)
    assert read == result
    assert (read.task.priority, read.task.queue_name, read.task.run_after) == (-100, "high", later)


@pytest.mark.parametrize(("driver", "default", "numbers"), [
    ("redis", None, [0, 0, 3, 6, 6, 9]),
    ("amqp", None, [9, 9, 4, 2, 2, 0]),
    ("redis", 6, [0, 0, 6, 6, 6, 9]),
    ("amqp", 1, [9, 9, 1, 1, 1, 0]),
])  # fmt: skip
def test_a_priority_becomes_one_of_the_brokers_whichever_way_that_counts(monkeypatch, driver, default, numbers):
    monkeypatch.setattr("drumline.tasks_backend.enqueue._higher_is_first", lambda _: driver == "amqp")
    app = SimpleNamespace(conf=SimpleNamespace(task_default_priority=default))

    assert [broker_priority(app, priority) for priority in (100, 1, 0, -1, -50, -51)] == numbers


def test_a_backend_that_is_named_otherwise_gives_its_results_that_name():
    with override_settings(TASKS={**backend(), "second": backend()["default"]}):
        result = background.nothing.using(backend="second").enqueue()
        assert (result.backend, background.nothing.get_result(result.id)) == ("second", result)


def test_celerys_serializer_does_not_matter(celery):
    celery(task_serializer="pickle")
    result = background.add.enqueue(1)

    assert background.add.get_result(result.id) == result


# What is refused, before anything is written


@pytest.mark.parametrize(
    "argument", [datetime.now(UTC), object(), {1, 2}, b"\xff"], ids=lambda value: type(value).__name__
)
def test_arguments_that_are_not_json_are_refused(argument):
    with pytest.raises((TypeError, ValueError), match="Unsupported"):
        background.add.enqueue(argument)

    assert not DurableTask.objects.exists()


def test_a_queue_that_the_backend_does_not_list_is_refused():
    with pytest.raises(framework.InvalidTask, match="'low' is not valid"):
        background.add.using(queue_name="low")


def test_a_queue_that_no_worker_can_consume_is_refused():
    with (
        override_settings(TASKS=backend(QUEUES=[])),
        pytest.raises(framework.InvalidTask, match=r"'nowhere' of .*add is not declared in CELERY_TASK_QUEUES"),
    ):
        background.add.using(queue_name="nowhere").enqueue()

    assert not DurableTask.objects.exists()


@pytest.mark.parametrize(
    "options",
    [{"priority": 101}, {"priority": -101}, {"priority": 1.5}, {"run_after": datetime(2100, 1, 1)}],  # noqa: DTZ001  the point
)
def test_what_the_framework_refuses_is_refused(options):
    with pytest.raises(framework.InvalidTask):
        background.add.using(**options)


@pytest.mark.parametrize("name", ["another_name", "the_same_name"])
def test_a_task_that_a_worker_would_not_find_by_its_path_is_refused(name, monkeypatch):
    task = background.renamed
    if name == "the_same_name":
        monkeypatch.setattr(background, "undecorated", background.add)

    with pytest.raises(framework.InvalidTask, match=r"testproject\.background\.undecorated"):
        task.enqueue()
    assert not DurableTask.objects.exists()


# Results


def test_a_result_is_read_with_one_query_and_equals_what_enqueueing_returned(django_assert_num_queries):
    result = background.add.enqueue(1, 2.5, start=None)

    with django_assert_num_queries(1):
        assert default_backend().get_result(result.id) == result


@pytest.mark.parametrize("missing", ["5a0cb4d4-0d3e-4c3a-9a30-6f5f0d1f2a11", "123", ""])
def test_a_result_that_is_not_there_is_said_to_be_missing(missing):
    with pytest.raises(framework.TaskResultDoesNotExist):
        default_backend().get_result(missing)


def test_a_task_of_celery_has_no_result_of_djangos():
    sent = current_app.tasks["drumline.ping"].delay()

    with pytest.raises(framework.TaskResultDoesNotExist, match=r"drumline\.ping"):
        default_backend().get_result(sent.id)


def test_the_result_of_another_task_is_a_mismatch():
    result = background.nothing.enqueue()

    with pytest.raises(Exception, match=r"background\.nothing") as mismatch:
        background.add.get_result(result.id)
    assert type(mismatch.value).__name__ == "TaskResultMismatch"


def test_what_was_enqueued_before_the_settings_changed_is_read_and_run(work):
    result = background.nothing.using(queue_name="high").enqueue()

    with override_settings(TASKS=backend(QUEUES=["low", "default"])):
        assert default_backend().get_result(result.id).status == READY
        work()
        assert default_backend().get_result(result.id).status == SUCCESSFUL


def test_the_result_of_a_task_whose_code_is_gone_is_missing_and_says_why(monkeypatch):
    result = background.nothing.enqueue()
    monkeypatch.delattr(background, "nothing")

    with pytest.raises(framework.TaskResultDoesNotExist, match=r"background\.nothing, which cannot be imported"):
        default_backend().get_result(result.id)


# Running


def test_a_task_runs_and_its_row_keeps_what_it_returned(work, heard):
    result = background.add.enqueue(1, 2, start=0.5)
    work()

    assert result.status == READY, "a result is as it was when it was read"
    result.refresh()
    assert (result.status, result.return_value, result.is_finished) == (SUCCESSFUL, 3.5, True)
    assert (result.attempts, result.worker_ids, result.errors) == (1, [str(current_id())], [])
    assert result.enqueued_at <= result.started_at == result.last_attempted_at <= result.finished_at
    assert heard.started.said == [(LedgerBackend, result.id, RUNNING)]
    assert heard.finished.said == [(LedgerBackend, result.id, SUCCESSFUL)]


@pytest.mark.parametrize(
    "value", [None, "\0 and \udce9", {"a": [1, {"b": "é"}]}, "x" * 200_000], ids=["none", "odd", "nested", "long"]
)
def test_any_json_comes_back(work, value):
    result = background.echo.enqueue(args=value, task_id=value)
    nothing = background.nothing.enqueue(value)
    work()

    result.refresh()
    nothing.refresh()
    assert result.return_value == {"args": value, "task_id": value}
    assert (nothing.status, nothing.return_value) == (SUCCESSFUL, None)


def test_a_coroutine_function_runs_and_may_enqueue_others(work):
    result, parent = background.add_slowly.enqueue(1, 2), background.enqueue_another.enqueue()
    work()
    work()

    result.refresh()
    parent.refresh()
    assert result.return_value == 3
    assert background.add.get_result(parent.return_value).return_value == 3


def test_a_task_that_takes_the_context_sees_its_result_and_its_attempt(work):
    result = background.describe.enqueue("a")
    work()

    result.refresh()
    assert result.return_value == [1, result.id, "RUNNING", ["a"], []]


def test_a_task_for_later_does_not_run_now(work):
    result = background.nothing.using(run_after=timezone.now() + timedelta(hours=1)).enqueue()
    work()

    result.refresh()
    assert result.status == READY


def test_a_listener_that_fails_does_not_fail_the_task(work):
    def listen(**_):
        raise RuntimeError("a listener's mistake")

    framework.task_started.connect(listen)
    framework.task_finished.connect(listen)
    try:
        result = background.add.enqueue(1)
        work()
    finally:
        framework.task_started.disconnect(listen)
        framework.task_finished.disconnect(listen)

    result.refresh()
    assert result.return_value == 1


# Failing


def test_a_task_that_raises_has_failed_and_is_a_dead_letter_with_the_exceptions_class(work, heard):
    result = background.fail.enqueue()
    work()

    result.refresh()
    assert (result.status, result.attempts, row_of(result).state) == (FAILED, 1, State.DEAD)
    (error,) = result.errors
    assert error.exception_class is ValueError
    assert error.traceback.rstrip().endswith("ValueError: on purpose")
    with pytest.raises(ValueError, match="failed"):
        _ = result.return_value
    assert heard.finished.said == [(LedgerBackend, result.id, FAILED)]
    announce_ends()
    assert len(heard.finished.said) == 1


def test_a_dead_letter_that_a_person_requeues_is_ready_again_and_remembers_its_errors(work, monkeypatch):
    result = background.describe.enqueue()
    with monkeypatch.context() as broken:
        broken.setattr(carrier, "_call", lambda *_: 1 / 0)
        work()
    result.refresh()
    assert result.status == FAILED

    assert requeue([result.id], by="ada") == 1
    result.refresh()
    assert (result.status, result.finished_at, result.attempts) == (READY, None, 1)
    work()

    result.refresh()
    assert (result.status, result.attempts) == (SUCCESSFUL, 2)
    assert result.return_value == [2, result.id, "RUNNING", [], ["builtins.ZeroDivisionError"]]
    assert [error.exception_class for error in result.errors] == [ZeroDivisionError]


@pytest.mark.parametrize("code", [0, 1, "a message", None])
def test_a_task_that_exits_has_failed_and_its_worker_goes_on(work, code):
    result = background.leave.enqueue(code)
    work()

    result.refresh()
    assert (result.status, [error.exception_class for error in result.errors]) == (FAILED, [SystemExit])
    assert row_of(result).error.startswith("TaskExitError: SystemExit")


def test_a_signal_that_ends_the_workers_process_ends_it(work):
    # As billiard's handler exits.
    result = background.leave.enqueue(-(256 - 15))

    with pytest.raises(SystemExit):
        work()
    result.refresh()
    assert result.status == RUNNING


def test_a_value_that_is_not_json_has_failed(work):
    result = background.return_a_function.enqueue()
    work()

    result.refresh()
    assert (result.status, [error.exception_class for error in result.errors]) == (FAILED, [TypeError])


def test_a_task_whose_worker_dies_is_ready_again_and_has_failed_after_its_last_attempt(work, heard):
    result = background.describe.enqueue()
    for attempt in (1, 2):
        assert claimed(result)
        assert recovery.task_lost(uuid.UUID(result.id), worker_id=current_id(), error="killed") == State.QUEUED
        result.refresh()
        assert (result.status, result.attempts) == (READY, attempt)
    work()
    result.refresh()
    assert result.return_value[0] == 3

    another = background.nothing.enqueue()
    for _ in range(3):
        assert claimed(another)
        recovery.task_lost(uuid.UUID(another.id), worker_id=current_id(), error="killed")
    announce_ends()
    another.refresh()
    assert (another.status, another.attempts) == (FAILED, 3)
    assert [error.exception_class for error in another.errors] == [WorkerLostError] * 3
    assert heard.finished.said[-1] == (LedgerBackend, another.id, FAILED)


def claimed(result) -> bool:
    return claiming.claims().claim(uuid.UUID(result.id), 0.0) is not None


def test_a_result_is_read_where_it_was_written(replica):  # noqa: ARG001
    result = background.nothing.enqueue()

    assert result_by_id(result.id).status == READY
    run = CurrentRun(RunKey(uuid.UUID(result.id), 2, 2))
    assert carrier._earlier(run).id == result.id


def test_a_task_that_took_too_long_has_failed_by_its_time_limit(work):  # noqa: ARG001  its claims
    result = background.nothing.enqueue()
    assert claimed(result)
    limit = f"{TimeLimitExceeded.__module__}.{TimeLimitExceeded.__qualname__}"
    ends.task_failed(uuid.UUID(result.id), worker_id=current_id(), error="too slow", exception=limit)

    result.refresh()
    assert (result.status, [error.exception_class for error in result.errors]) == (FAILED, [TimeLimitExceeded])
    assert result.errors[0].traceback == "too slow"


def test_a_task_that_a_person_discards_has_failed_and_says_who_did_it(heard):
    result = background.nothing.enqueue()
    discard([result.id], by="ada", reason="cancelled")
    announce_ends()

    result.refresh()
    assert (result.status, result.attempts) == (FAILED, 0)
    assert [(error.exception_class, error.traceback) for error in result.errors] == [
        (TaskRevokedError, "discarded by ada: cancelled")
    ]
    assert heard.finished.said == [(LedgerBackend, result.id, FAILED)]


def test_a_task_that_no_worker_knows_has_failed_after_ten_deliveries():
    result = background.nothing.enqueue()
    for _ in range(10):
        result.refresh()
        assert (result.status, result.attempts, result.errors) == (READY, 0, [])
        ends.task_deferred(uuid.UUID(result.id), error="no worker knows it")

    result.refresh()
    assert (result.status, [error.exception_class for error in result.errors]) == (FAILED, [NotRegistered])


def test_a_task_that_this_workers_release_lacks_waits_for_one_that_has_it(work, monkeypatch):
    result = background.add.enqueue(1)
    with monkeypatch.context() as older:
        older.delattr(background, "add")
        for retries in range(1, 10):
            work()
            row = row_of(result)
            assert (row.state, row.retries) == (State.QUEUED, retries)
            DurableTask.objects.update(due_at=timezone.now())
        requeued = row_of(result)
        work()
    result.refresh()
    assert (result.status, [error.exception_class for error in result.errors]) == (FAILED, [ImportError])

    requeued.save()
    work()
    result.refresh()
    assert (result.status, result.return_value) == (SUCCESSFUL, 1)


def test_a_message_cannot_have_something_run_that_is_no_task(work):
    result = background.nothing.enqueue()
    row = row_of(result)
    message = Message.loads(row.message)
    message.headers["django_task"]["path"] = "subprocess.check_output"
    DurableTask.objects.update(message=message.dumps())
    work()

    assert row_of(result).state == State.QUEUED
    assert row_of(result).retries == 1


# In one project with Celery's tasks


def test_the_admin_lists_both_and_shows_arguments_and_result(root, work):
    result = background.add.enqueue(1, 2, start=3)
    current_app.tasks["testproject.work"].apply_async(countdown=3600)
    work()

    both = root.get(reverse("admin:drumline_durabletask_changelist") + "?state=any").content.decode()
    assert "testproject.background.add" in both
    assert "testproject.work" in both
    page = root.get(reverse("admin:drumline_durabletask_change", args=[result.id])).content.decode()
    assert "&quot;start&quot;: 3" in page
    assert '<div class="readonly">6</div>' in page


def test_a_task_may_send_a_task_of_celery(work):
    result = background.send_celerys_own.enqueue()
    work()

    result.refresh()
    assert DurableTask.objects.get(id=result.return_value).name == "testproject.work"


# Checks


def messages(**settings) -> list[str]:
    with override_settings(**settings):
        return [message.id for message in default_backend().check()]


def test_the_checks_have_nothing_to_say_of_settings_that_are_right():
    assert messages() == []


@pytest.mark.parametrize(("settings", "told"), [
    ({"TASKS": backend(OPTIONS={"queue": "high"})}, ["drumline.E001"]),
    ({"INSTALLED_APPS": ["django.contrib.auth", "django.contrib.contenttypes"]}, ["drumline.E002"]),
    ({"USE_TZ": False}, ["drumline.E003"]),
    ({"TASKS": backend(QUEUES=["default", "emails"])}, ["drumline.E006"]),
    ({"TASKS": backend(QUEUES=[])}, []),
])  # fmt: skip
def test_the_checks_name_what_would_keep_a_task_from_running(settings, told):
    assert messages(**settings) == told


@pytest.mark.parametrize(("setting", "value", "told"), [
    ("accept_content", ["pickle"], ["drumline.E005"]),
    ("task_always_eager", True, ["drumline.W001"]),
])  # fmt: skip
def test_the_checks_name_what_celery_would_do_otherwise(setting, value, told, celery):
    celery(**{setting: value})
    assert messages() == told


def test_a_queue_that_only_a_worker_started_for_it_consumes_is_named(celery):
    celery(task_create_missing_queues=True)
    assert messages(TASKS=backend(QUEUES=["default", "emails"])) == ["drumline.W002"]


def test_a_project_without_a_celery_application_is_told(monkeypatch):
    monkeypatch.setattr("drumline.tasks_backend.checks.is_found", lambda: False)
    assert messages() == ["drumline.E004"]


def test_the_deployment_check_names_a_queue_of_djangos_tasks_that_is_not_served():
    problems = list(serving_problems(current_app, ["default", "low"]))

    assert any(
        problem.startswith("queue high is not served, but") and "TASKS['default']" in problem for problem in problems
    )


def test_a_task_may_be_defined_before_the_models_are_loaded():
    script = "import sys, drumline.tasks_backend; assert 'drumline.models' not in sys.modules"
    subprocess.run(
        [sys.executable, "-c", script],
        check=True,
        env={"DJANGO_SETTINGS_MODULE": "testproject.settings"},
        cwd=sys.path[0],
    )


def test_celerys_eager_mode_runs_the_task_within_enqueue(celery, heard):
    celery(task_always_eager=True)
    result = background.describe.enqueue()

    assert [said[1:] for said in heard.finished.said] == [(result.id, SUCCESSFUL)]
    assert not DurableTask.objects.exists()
    assert json.dumps(result.args) == "[]"


@pytest.mark.parametrize("path", sorted(set(EXCEPTIONS.values())))
def test_each_class_that_stands_for_an_end_can_be_imported(path):
    assert framework.TaskError(exception_class_path=path, traceback="").exception_class
