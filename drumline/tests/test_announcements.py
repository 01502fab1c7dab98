"""Every end of a task reaches whoever waits for it: its result, its chord, its chain, the signals of Celery."""

import uuid
from datetime import UTC, datetime, timedelta

import pytest
from celery import chain, chord, current_app, signals, states
from celery.exceptions import TaskRevokedError
from celery.result import AsyncResult
from django.db import OperationalError
from django_celery_results.models import ChordCounter, TaskResult

from drumline.celery_hooks.request import LedgerRequest
from drumline.ledger import ends, operators, recovery
from drumline.ledger.portable import PortableStore
from drumline.ledger.selectors import task_by_id
from drumline.models import Announcement, DurableTask
from drumline.relay import announcements
from drumline.relay.announcements import ResultsUnavailableError, announce_ends
from drumline.relay.relay import Relay
from drumline.worker import heartbeat

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("no_broker")]

State = DurableTask.State
WORKER = uuid.uuid4()


@pytest.fixture
def revoked():
    """Collect what `task_revoked` says."""
    heard: list[tuple[str, bool]] = []

    def listen(request, expired, **_):
        heard.append((request.id, expired))

    signals.task_revoked.connect(listen)
    yield heard
    signals.task_revoked.disconnect(listen)


def sent(task_id: str, **options) -> AsyncResult:
    return current_app.tasks["drumline.ping"].apply_async(task_id=task_id, ignore_result=False, **options)


def expired(task_id: str) -> AsyncResult:
    result = sent(task_id, countdown=60, expires=3600)
    DurableTask.objects.update(expires_at=datetime.now(UTC) - timedelta(seconds=1))
    return result


def test_a_task_that_expired_before_it_was_published_is_revoked_in_celery_too(revoked, monkeypatch):
    result = expired("11111111-0000-4000-8000-000000000000")
    monkeypatch.setattr("drumline.relay.relay.empty_queues", lambda _: [])

    Relay().round()

    assert DurableTask.objects.get().state == State.DISCARDED
    with pytest.raises(TaskRevokedError, match="expired"):
        result.get(timeout=0)
    assert revoked == [(result.id, True)]
    Relay().round()
    assert len(revoked) == 1
    assert not Announcement.objects.exists()


def test_a_waiting_task_that_a_person_discards_is_revoked_in_celery_too(revoked):
    result = sent("22222222-0000-4000-8000-000000000000")
    operators.discard([uuid.UUID(result.id)], reason="sent twice", by="ada")
    assert not revoked, "nothing is announced in the transaction of a request"

    announce_ends()

    # Whose decision it was is the operators' matter.
    with pytest.raises(TaskRevokedError, match=r"^discarded$"):
        result.get(timeout=0)
    assert revoked == [(result.id, False)]


def test_an_end_is_announced_and_told_from_where_it_was_written(revoked, replica):  # noqa: ARG001
    result = sent("44444444-0000-4000-8000-000000000000")
    operators.discard([result.id], reason="sent twice", by="ada")
    announce_ends()

    assert revoked == [(result.id, False)]
    assert operators.status(result.id) == State.DISCARDED
    assert task_by_id(result.id).error == "discarded by ada: sent twice"


def test_a_dead_letter_that_is_discarded_stays_failed(revoked):
    result = sent("33333333-0000-4000-8000-000000000000")
    run = PortableStore().claim(uuid.UUID(result.id), 0.0, WORKER, [])
    PortableStore().fail(WORKER, run, "KeyError: 'x'", "")
    operators.discard([run.task_id], reason="no use", by="ada")

    announce_ends()

    assert revoked == []


def test_a_requeued_task_has_not_ended(revoked):
    result = sent("44444444-0000-4000-8000-000000000000")
    operators.discard([uuid.UUID(result.id)], reason="sent twice", by="ada")
    operators.requeue([uuid.UUID(result.id)], by="ada")

    announce_ends()

    assert (revoked, result.state) == ([], states.PENDING)


def test_a_chord_fails_when_a_member_is_discarded(revoked):
    ping, body = current_app.tasks["drumline.ping"], str(uuid.uuid4())
    # A task that keeps no results keeps one as a member; the ledger must not ask the task alone.
    members = [ping.si().set(task_id=str(uuid.UUID(int=n))) for n in (1, 2)]
    chord(members, ping.si().set(task_id=body)).apply_async()
    operators.discard([uuid.UUID(int=1), uuid.UUID(int=2)], reason="no use", by="ada")

    announce_ends()

    assert not ChordCounter.objects.exists()
    assert TaskResult.objects.get(task_id=body).status == states.FAILURE
    assert len(revoked) == 2


def test_a_chain_ends_with_the_task_that_expired(revoked):
    ping = current_app.tasks["drumline.ping"]
    last = chain(ping.si().set(ignore_result=False), ping.si().set(ignore_result=False)).apply_async(countdown=60)
    DurableTask.objects.update(expires_at=datetime.now(UTC) - timedelta(seconds=1))
    ends.tasks_expire()

    announce_ends()

    # By its id alone, as a page asks that knows nothing of the chain.
    assert AsyncResult(last.id).state == states.REVOKED
    assert len(revoked) == 1


def test_a_dead_letter_whose_worker_died_reaches_its_chord(monkeypatch):
    ping, body = current_app.tasks["drumline.ping"], str(uuid.uuid4())
    monkeypatch.setattr(type(ping), "ignore_result", True, raising=False)
    chord([ping.si().set(task_id=str(uuid.UUID(int=1)))], ping.si().set(task_id=body)).apply_async()
    DurableTask.objects.update(max_attempts=1)
    PortableStore().claim(uuid.UUID(int=1), 0.0, WORKER, [])
    recovery.task_lost(uuid.UUID(int=1), worker_id=WORKER, error="killed")

    announce_ends()

    assert TaskResult.objects.get(task_id=body).status == states.FAILURE


def test_an_end_that_cannot_be_announced_holds_no_other(revoked):
    results = [expired(str(uuid.UUID(int=n))) for n in (1, 2)]
    ends.tasks_expire()
    DurableTask.objects.filter(id=results[0].id).update(message="not a message")

    announce_ends()

    assert [task_id for task_id, _ in revoked] == [results[1].id]
    assert not Announcement.objects.exists(), "it would come again for ever"


@pytest.mark.parametrize(
    ("error", "raised"),
    [(ConnectionError("no results"), ResultsUnavailableError), (OperationalError(), OperationalError)],
)
def test_announcements_wait_for_results_that_are_away(revoked, monkeypatch, error, raised):
    expired(str(uuid.UUID(int=1)))
    ends.tasks_expire()
    with monkeypatch.context() as patch:
        patch.setattr(announcements, "_announce", lambda _: (_ for _ in ()).throw(error))
        with pytest.raises(raised):
            announce_ends()

    announce_ends()

    assert len(revoked) == 1


def request(task_id: str) -> LedgerRequest:
    """What a worker makes of a message, as far as its end is concerned."""
    this = LedgerRequest.__new__(LedgerRequest)
    this._request_dict, this.id, this._eventer = {"durable": True}, task_id, None
    this.acknowledged = []
    this.acknowledge = lambda: this.acknowledged.append(True)
    return this


def test_a_late_delivery_does_not_revoke_a_task_that_has_ended(revoked, monkeypatch):
    monkeypatch.setattr(heartbeat, "_thread", None)
    result = sent("55555555-0000-4000-8000-000000000000")
    run = PortableStore().claim(uuid.UUID(result.id), 0.0, WORKER, [])
    PortableStore().finish(WORKER, [run])
    late = request(result.id)

    late._announce_revoked("expired", False, None, True)  # noqa: FBT003  Celery's signature
    announce_ends()

    assert DurableTask.objects.get().state == State.FINISHED
    assert (late.acknowledged, revoked, result.state) == ([True], [], states.PENDING)


def test_two_workers_that_find_a_task_revoked_announce_it_once(revoked, monkeypatch):
    monkeypatch.setattr(heartbeat, "_thread", None)
    result = sent("66666666-0000-4000-8000-000000000000")

    for _ in range(2):
        request(result.id)._announce_revoked("revoked", False, None, False)  # noqa: FBT003  Celery's signature
        announce_ends()

    assert result.state == states.REVOKED
    assert revoked == [(result.id, False)]


def test_what_a_worker_terminated_is_discarded_for_that_run_alone():
    result = sent("77777777-0000-4000-8000-000000000000")
    run = PortableStore().claim(uuid.UUID(result.id), 0.0, WORKER, [])
    sent(result.id, replaced_task_nesting=1)
    PortableStore().claim(run.task_id, 0.0, WORKER, [])

    assert not ends.task_terminated(run.task_id, worker_id=WORKER, reason="revoked", generation=0)
    assert recovery.task_lost(run.task_id, worker_id=WORKER, error="killed", generation=0) is None
    assert ends.task_terminated(run.task_id, worker_id=WORKER, reason="revoked", generation=1)
    assert not Announcement.objects.exists(), "Celery's worker has announced it"
