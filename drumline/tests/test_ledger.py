"""The ledger's rows: what each service makes of them, and nothing else."""

import asyncio
import contextlib
import json
import re
import uuid
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from unittest import mock

import pytest
from celery import current_app, group, signals
from celery.exceptions import NotRegistered
from django.core.exceptions import SynchronousOnlyOperation
from django.db import transaction
from kombu.exceptions import ContentDisallowed
from kombu.serialization import register

from drumline.broker.publishing import breaker
from drumline.celery_hooks.signals import defer_refused
from drumline.ledger import ends, operators, recovery, retention
from drumline.ledger.portable import PortableStore
from drumline.ledger.selectors import task_error
from drumline.ledger.store import RunKey
from drumline.message import Message, ledger_id
from drumline.models import DurableTask
from drumline.relay.announcements import announce_ends

pytestmark = pytest.mark.django_db

State = DurableTask.State
WORKER = uuid.uuid4()


@pytest.fixture
def broker(monkeypatch):
    """Keep what would be published."""
    published: list[Message] = []
    monkeypatch.setattr("drumline.sending.enqueue.publish", published.extend)
    return published


@pytest.fixture
def queued(broker) -> DurableTask:  # noqa: ARG001  it stands in for the broker
    current_app.tasks["drumline.ping"].apply_async(task_id=str(uuid.uuid4()))
    return DurableTask.objects.get()


@pytest.fixture
def running(queued) -> DurableTask:
    assert PortableStore().claim(queued.id, 0.0, WORKER, []) == (queued.id, 1, 1)
    queued.refresh_from_db()
    return queued


@pytest.fixture
def failures():
    """Collect the failures that Celery is told of."""
    told: list[Exception] = []

    def listen(exception, **_):
        told.append(exception)

    signals.task_failure.connect(listen)
    yield told
    signals.task_failure.disconnect(listen)


def ids(row: DurableTask) -> list[uuid.UUID]:
    return [row.id]


def test_a_sent_task_is_a_queued_row_with_its_whole_message(queued):
    message = Message.loads(queued.message)

    assert (queued.state, queued.queue, queued.attempt, queued.max_attempts) == (State.QUEUED, "default", 0, 3)
    assert queued.published_at is not None
    assert message.body == '[[], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]'
    assert message.headers["durable"] is True
    assert ledger_id(message.headers["id"]) == queued.id


def test_only_one_of_two_claims_gets_the_row(queued):
    claims = PortableStore()

    assert claims.claim(queued.id, 0.0, WORKER, []) == (queued.id, 1, 1)
    assert claims.claim(queued.id, 0.0, uuid.uuid4(), []) is None


def test_a_delayed_task_is_neither_published_nor_claimed_before_its_time(broker):
    current_app.tasks["drumline.ping"].apply_async(countdown=3600)

    row = DurableTask.objects.get()
    assert row.published_at is None
    assert row.due_at > datetime.now(UTC) + timedelta(minutes=59)
    assert PortableStore().claim(row.id, 0.0, WORKER, []) is None
    assert broker == []


def test_a_close_of_an_earlier_attempt_changes_nothing(running):
    PortableStore().finish(WORKER, [RunKey(running.id, 0, 1), RunKey(running.id, 2, 1)])
    PortableStore().finish(uuid.uuid4(), [RunKey(running.id, 1, 1)])

    running.refresh_from_db()
    assert running.state == State.RUNNING


def test_a_task_whose_process_died_is_queued_again_until_its_last_attempt(running, failures):
    for attempt in (1, 2):
        assert recovery.task_lost(running.id, worker_id=WORKER, error="killed") == State.QUEUED
        assert PortableStore().claim(running.id, 0.0, WORKER, []) == (running.id, attempt + 1, attempt + 1)
    assert recovery.task_lost(running.id, worker_id=WORKER, error="killed") == State.DEAD
    announce_ends()

    running.refresh_from_db()
    assert running.error == "killed (attempt 3, the last one)"
    assert [entry["what"] for entry in running.history] == ["lost"] * 3
    assert [str(error) for error in failures] == [running.error]


def test_a_retry_that_the_task_asked_for_does_not_use_up_an_attempt(running):
    DurableTask.objects.update(attempt=6, retries=5)

    assert recovery.task_lost(running.id, worker_id=WORKER, error="killed") == State.QUEUED


def test_what_another_worker_runs_is_not_lost_with_this_one(running):
    assert recovery.task_lost(running.id, worker_id=uuid.uuid4(), error="killed") is None
    assert recovery.worker_release(uuid.uuid4(), error="killed") == 0
    assert recovery.worker_release(WORKER, error="killed") == 1


def test_a_dead_letter_is_requeued_with_all_its_attempts_and_the_name_of_who_did_it(running):
    assert ends.task_failed(running.id, worker_id=WORKER, error="too slow")
    assert operators.requeue(ids(running), by="ada") == 1

    running.refresh_from_db()
    assert (running.state, running.attempt, running.error, running.published_at) == (State.QUEUED, 0, "", None)
    assert [(entry["what"], entry.get("by")) for entry in running.history] == [("failed", None), ("requeued", "ada")]
    assert operators.requeue(ids(running), by="ada") == 0


def test_a_task_that_is_sent_under_another_name_is_listed_by_it_and_ends_as_what_it_is(broker, failures):
    current_app.tasks["drumline.ping"].apply_async(task_id=str(uuid.uuid4()), shadow="shop.tasks.reorder", durable=True)
    sent = DurableTask.objects.get()
    assert (sent.name, broker) == ("shop.tasks.reorder", [])

    with mock.patch.object(current_app.tasks["drumline.ping"].backend, "mark_as_failure") as stored:
        assert ends.task_refused(sent.id, error="no message can hold it")
        announce_ends()
    assert stored.called
    assert [str(error) for error in failures] == ["no message can hold it"]


def test_a_task_that_took_too_long_says_by_which_class(running):
    assert ends.task_failed(running.id, worker_id=WORKER, error="too slow", exception="celery.Limit")

    running.refresh_from_db()
    assert [(entry["what"], entry["exception"]) for entry in running.history] == [("failed", "celery.Limit")]


def test_a_discarded_task_is_not_run_and_says_why(queued):
    assert operators.discard(ids(queued), reason="sent by mistake", by="ada") == 1

    queued.refresh_from_db()
    assert queued.error == "discarded by ada: sent by mistake"
    assert PortableStore().claim(queued.id, 0.0, WORKER, []) is None


@pytest.mark.parametrize("given", [str, uuid.UUID], ids=["text", "UUID"])
def test_one_id_in_the_place_of_many_is_refused_and_not_taken_for_its_characters(queued, given):
    one = given(str(queued.id))
    said = f"^{re.escape(repr(one))} is one id. Use a list of ids: {re.escape(repr([one]))}$"
    with pytest.raises(TypeError, match=said):
        operators.discard(one, reason="sent by mistake", by="ada")
    with pytest.raises(TypeError, match=said):
        operators.requeue(one, by="ada")
    with pytest.raises(TypeError, match=f"is one task. Use a list of tasks, or of their ids: .'{queued.id}'.$"):
        operators.requeue(queued, by="ada")


def test_tasks_are_discarded_and_requeued_by_their_rows_as_well(queued):
    assert operators.discard([queued], reason="sent by mistake", by="ada") == 1
    assert operators.requeue(DurableTask.objects.all(), by="ada") == 1
    queued.refresh_from_db()
    assert queued.state == State.QUEUED


def test_a_running_task_is_not_discarded(running):
    assert operators.discard(ids(running), reason="impatience", by="ada") == 0


def test_a_task_that_nobody_knows_waits_longer_each_time_and_is_a_dead_letter_at_last(queued, failures):
    waits = []
    while ends.task_deferred(queued.id, error="unknown task") == State.QUEUED:
        queued.refresh_from_db()
        waits.append(round((queued.due_at - datetime.now(UTC)).total_seconds()))
    announce_ends()

    assert waits == [5, 10, 20, 40, 80, 160, 300, 300, 300]
    queued.refresh_from_db()
    assert queued.state == State.DEAD
    assert [type(error) for error in failures] == [NotRegistered]


def test_what_nobody_started_in_time_is_discarded(queued):
    DurableTask.objects.update(expires_at=datetime.now(UTC) - timedelta(seconds=1))

    assert ends.tasks_expire() == 1
    queued.refresh_from_db()
    assert (queued.state, queued.error) == (State.DISCARDED, "expired before it was started")


def test_finished_rows_go_when_they_were_kept_long_enough_and_dead_letters_stay(queued, settings):  # noqa: ARG001
    old = datetime.now(UTC) - timedelta(hours=1)
    DurableTask.objects.update(state=State.FINISHED, finished_at=old)
    assert retention.finished_purge() == 0

    settings.DRUMLINE_KEEP_FINISHED = 60
    DurableTask.objects.update(state=State.DEAD)
    assert retention.finished_purge() == 0
    DurableTask.objects.update(state=State.FINISHED)
    assert retention.finished_purge() == 1


def test_a_broker_that_fails_leaves_the_task_to_the_relay(django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        # Nothing listens on the broker's port in these tests.
        current_app.tasks["drumline.ping"].delay()

    assert DurableTask.objects.get().published_at is None


def test_an_error_of_publishing_that_is_not_the_brokers_is_said_as_what_it_is(
    django_capture_on_commit_callbacks, monkeypatch, caplog
):
    def break_down(*_, **__):
        raise TypeError("publish() got an unexpected keyword argument")

    monkeypatch.setattr("drumline.broker.publishing._publish_all", break_down)
    with django_capture_on_commit_callbacks(execute=True):
        current_app.tasks["drumline.ping"].delay()

    assert "publish_failed" in caplog.text
    assert "TypeError: publish() got an unexpected keyword argument" in caplog.text
    assert "publish_left_to_relay" not in caplog.text
    assert breaker.is_closed()
    assert DurableTask.objects.get().published_at is None


def test_an_id_that_is_used_again_is_warned_of_and_sends_nothing(broker, caplog, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        current_app.tasks["drumline.ping"].apply_async(task_id="import-of-today")
        assert "task_id_reused" not in caplog.text
        current_app.tasks["drumline.ping"].apply_async(task_id="import-of-today")
        group(
            current_app.tasks["drumline.ping"].si().set(task_id=name) for name in ("a", "import-of-today", "a", "b")
        ).delay()

    assert caplog.text.count("task_id_reused") == 3
    assert [message.headers["id"] for message in broker] == ["import-of-today", "a", "b"]


@pytest.mark.django_db(transaction=True)
def test_what_one_transaction_sends_is_published_together_in_order_and_without_what_it_took_back(monkeypatch):
    happened: list[list[str]] = []
    monkeypatch.setattr(
        "drumline.sending.enqueue.publish",
        lambda messages: happened.append([message.headers["id"] for message in messages]),
    )

    def send(*ids: str) -> None:
        for task_id in ids:
            current_app.tasks["drumline.ping"].apply_async(task_id=task_id)

    with transaction.atomic():
        send("a", "b")
        transaction.on_commit(lambda: happened.append(["the project's own"]))
        send("c")
        with transaction.atomic():
            send("d", "e")
        with contextlib.suppress(ZeroDivisionError), transaction.atomic():
            send("f")
            1 / 0  # noqa: B018
        send("g", "h")
    send("i")

    assert happened == [["a", "b"], ["the project's own"], ["c"], ["d", "e"], ["g", "h"], ["i"]]


def test_a_test_case_finds_what_was_sent_within_its_part_of_the_transaction(broker, django_capture_on_commit_callbacks):
    current_app.tasks["drumline.ping"].delay()
    with django_capture_on_commit_callbacks(execute=True) as callbacks:
        current_app.tasks["drumline.ping"].delay()
        current_app.tasks["drumline.ping"].delay()

    assert (len(callbacks), len(broker)) == (2, 2)


@pytest.mark.django_db(transaction=True)
def test_async_code_that_sends_a_task_reads_what_to_type(broker):
    async def view(send) -> None:
        await send()

    async def delay() -> None:
        current_app.tasks["drumline.ping"].delay()

    with pytest.raises(SynchronousOnlyOperation, match=r"await sync_to_async\(task\.delay\)"):
        asyncio.run(view(delay))
    assert broker == []


def test_a_serializer_that_no_worker_accepts_is_refused_before_anything_is_written(broker):
    register("reversed", lambda value: json.dumps(value)[::-1], lambda text: json.loads(text[::-1]), "text/reversed")
    with pytest.raises(ContentDisallowed, match="serialised as text/reversed, which is not in CELERY_ACCEPT_CONTENT"):
        current_app.tasks["drumline.ping"].apply_async(serializer="reversed")

    assert not DurableTask.objects.exists()
    assert broker == []


@pytest.mark.parametrize("refuse", ["reject", "decode"])
def test_a_message_that_every_worker_refuses_is_a_dead_letter_with_the_reason_after_ten_deliveries(
    queued, refuse, django_capture_on_commit_callbacks
):
    message = SimpleNamespace(headers=Message.loads(queued.message).headers, ack=lambda: None, body="", properties={})
    error = ContentDisallowed("Refusing to deserialize disabled content of type yaml")
    with django_capture_on_commit_callbacks(execute=True):
        for _ in range(10):
            assert DurableTask.objects.get().state == State.QUEUED
            if refuse == "reject":
                signals.task_rejected.send(sender=None, message=message, exc=error)
            else:
                defer_refused(message, error)

    queued.refresh_from_db()
    assert queued.state == State.DEAD
    assert queued.error == f"a worker refused the message: ContentDisallowed: {error}"
    assert task_error(queued) == "RefusedError"


@pytest.mark.parametrize(("protocol", "said"), [(1, 1), (2, 0)])
def test_a_worker_whose_messages_have_no_headers_says_at_its_start_that_no_task_is_kept(protocol, said, caplog):
    signals.celeryd_init.send(
        sender="worker@host", instance=mock.MagicMock(), conf=SimpleNamespace(task_protocol=protocol)
    )

    assert caplog.text.count("CELERY_TASK_PROTOCOL is not 2, so no task is durable") == said


def test_an_operator_who_requeues_gives_an_expired_task_its_time_back(broker):  # noqa: ARG001
    current_app.tasks["drumline.ping"].apply_async(expires=0.001)
    DurableTask.objects.update(expires_at=datetime.now(UTC) - timedelta(seconds=1))
    ends.tasks_expire()

    assert operators.requeue(DurableTask.objects.values_list("id", flat=True), by="ada") == 1
    row = DurableTask.objects.get()
    assert row.expires_at is None
    assert Message.loads(row.message).headers["expires"] is None
