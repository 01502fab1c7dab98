"""What a relay concludes from what it sees, round by round, by a clock of its own."""

import uuid
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from celery import current_app
from django.core.management import load_command_class
from django.db import connection

from drumline.application import application
from drumline.broker.publishing import PublishError, RefusedError
from drumline.ledger.selectors import task_error
from drumline.models import DurableTask, Worker
from drumline.relay import relay as module
from drumline.relay.relay import Relay

pytestmark = pytest.mark.django_db

State = DurableTask.State
NOW = datetime.now(UTC)


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def broker(monkeypatch):
    """A broker that takes everything, and holds something of each queue unless a test names it in `broker.empty`."""

    class Broker:
        published: list[str] = []
        empty: set[str] = set()

        def publish(self, messages) -> None:
            self.published += [message.headers["id"] for message in messages]

        def empty_queues(self, queues):
            return [queue for queue in queues if queue in self.empty]

    broker = Broker()
    monkeypatch.setattr(broker, "published", [])
    monkeypatch.setattr(broker, "empty", set())
    monkeypatch.setattr(module, "publish", broker.publish)
    monkeypatch.setattr(module, "empty_queues", broker.empty_queues)
    monkeypatch.setattr("drumline.sending.enqueue.publish", lambda _: None)
    return broker


def task(**changes) -> str:
    task_id = str(uuid.uuid4())
    current_app.tasks["drumline.ping"].apply_async(task_id=task_id)
    DurableTask.objects.filter(id=task_id).update(**changes)
    return task_id


def worker(**changes) -> uuid.UUID:
    fields = {"name": "default-1@a", "host": "a", "pid": 1, "queues": "default", "started_at": NOW, "beat_at": NOW}
    return Worker.objects.create(id=uuid.uuid4(), **(fields | changes)).id


def state(task_id: str) -> int:
    return DurableTask.objects.get(id=task_id).state


def test_what_is_due_is_published_in_the_order_of_its_time(broker):
    later = task(published_at=None, due_at=NOW - timedelta(seconds=1))
    sooner = task(published_at=None, due_at=NOW - timedelta(seconds=9))
    task(published_at=None, due_at=NOW + timedelta(hours=1))
    task()

    Relay().round()

    assert broker.published == [sooner, later]
    Relay().round()
    assert len(broker.published) == 2


def test_a_broker_that_does_not_take_it_gets_it_in_a_later_round(broker, monkeypatch):
    due = task(published_at=None)
    monkeypatch.setattr(module, "publish", lambda _: (_ for _ in ()).throw(PublishError("gone")))
    relay = Relay()
    relay.round()
    assert DurableTask.objects.get().published_at is None

    monkeypatch.setattr(module, "publish", broker.publish)
    relay.round()
    assert broker.published == [due]


def test_the_next_round_is_when_the_next_task_is_due(broker):  # noqa: ARG001
    assert Relay().round() == module.ROUND
    task(published_at=None, due_at=datetime.now(UTC) + timedelta(seconds=0.5))
    assert 0 < Relay().round() <= 0.5


def test_a_worker_whose_counter_stands_still_for_a_lease_loses_its_tasks(broker, clock):
    held = task(state=State.RUNNING, worker_id=worker(beats=5), attempt=1)
    relay = Relay(clock)
    relay.round()
    clock.seconds += 14
    relay.round()
    assert state(held) == State.RUNNING

    clock.seconds += 2
    relay.round()

    assert broker.published == [held]
    assert Worker.objects.get().stopped_at is not None


def test_what_a_dead_worker_had_reserved_and_nobody_has_started_is_published_again(broker, clock):
    reserved, started, waiting = task(), task(), task()
    DurableTask.objects.filter(id=started).update(state=State.RUNNING, worker_id=worker(name="default-2@a"), attempt=1)
    dead = worker(reserved=[reserved, started])
    relay = Relay(clock)
    relay.round()
    clock.seconds += 16
    Worker.objects.exclude(id=dead).update(beats=1)

    relay.round()

    assert broker.published == [reserved]
    assert state(started) == State.RUNNING
    assert state(waiting) == State.QUEUED


def test_a_worker_that_beats_keeps_its_tasks_for_ever(broker, clock):  # noqa: ARG001
    held = task(state=State.RUNNING, worker_id=worker(), attempt=1)
    relay = Relay(clock)
    for beats in range(20):
        Worker.objects.update(beats=beats)
        relay.round()
        clock.seconds += 10

    assert state(held) == State.RUNNING


def test_after_a_database_outage_every_lease_begins_anew(broker, clock):  # noqa: ARG001
    held = task(state=State.RUNNING, worker_id=worker(), attempt=1)
    relay = Relay(clock)
    relay.round()

    clock.seconds += 3600
    relay.forget()
    relay.round()

    assert state(held) == State.RUNNING


def test_a_worker_that_has_not_written_its_row_yet_gets_a_lease_to_do_it(broker, clock):  # noqa: ARG001
    held = task(state=State.RUNNING, worker_id=uuid.uuid4(), attempt=1)
    relay = Relay(clock)
    relay.round()
    assert state(held) == State.RUNNING

    clock.seconds += 16
    relay.round()
    assert state(held) == State.QUEUED


def test_a_worker_that_begins_while_the_relay_looks_keeps_what_it_claims(broker):  # noqa: ARG001
    held = task()
    begun = []

    def begin(execute, sql, *arguments):
        found = execute(sql, *arguments)
        if not begun:
            # After the first look, at the workers that live, and before the next one.
            begun.append(None)
            begun.append(worker())
            DurableTask.objects.filter(id=held).update(state=State.RUNNING, worker_id=begun[1], attempt=1)
        return found

    with connection.execute_wrapper(begin):
        assert Relay().reclaim() == 0

    row = DurableTask.objects.get(id=held)
    assert (row.state, row.worker_id, row.history) == (State.RUNNING, begun[1], [])


def test_what_a_worker_claimed_after_it_was_given_up_is_taken_back_at_once(broker):
    held = task(state=State.RUNNING, worker_id=worker(stopped_at=NOW), attempt=1)

    Relay().round()

    assert broker.published == [held]


def test_a_message_that_a_later_one_has_overtaken_is_lost_and_a_healthy_backlog_is_not(broker):
    overtaken = task(published_at=NOW - timedelta(seconds=60))
    task(state=State.RUNNING, published_at=NOW - timedelta(seconds=30), worker_id=worker(), attempt=1)
    task(published_at=NOW - timedelta(seconds=33))
    task(published_at=NOW - timedelta(seconds=20))
    task(published_at=NOW - timedelta(seconds=60), queue="low")
    task(published_at=NOW - timedelta(seconds=60), priority=3)
    relay = Relay()

    relay.round()

    assert broker.published == [overtaken]
    relay.round()
    assert broker.published == [overtaken]


@pytest.mark.parametrize(("lowest_first", "overtaken"), [(True, (0, 3)), (False, (3, 6))])
def test_a_message_that_one_of_lower_priority_has_overtaken_is_lost(broker, monkeypatch, lowest_first, overtaken):
    monkeypatch.setattr(module, "is_lowest_first", lambda: lowest_first)
    waiting = {priority: task(published_at=NOW - timedelta(seconds=60), priority=priority) for priority in (0, 3, 6)}
    running = {"state": State.RUNNING, "worker_id": worker(), "attempt": 1}
    task(published_at=NOW - timedelta(seconds=30), priority=3, **running)

    Relay().round()

    assert set(broker.published) == {waiting[priority] for priority in overtaken}


def test_everything_of_an_empty_queue_is_lost_but_what_may_be_on_its_way(broker):
    worker(queues="default,low")
    lost = task(published_at=NOW - timedelta(seconds=60))
    task(published_at=datetime.now(UTC))
    task(published_at=NOW - timedelta(seconds=60), queue="low")
    broker.empty = {"default"}

    Relay().round()

    assert broker.published == [lost]


def test_what_another_service_takes_from_a_queue_is_sent_once_until_a_worker_of_the_ledger_consumes_it(broker):
    taken = task(published_at=NOW - timedelta(seconds=60), queue="of-another-service")
    worker(queues="default")
    broker.empty = {"of-another-service"}
    relay = Relay()

    relay.round()
    assert broker.published == []

    worker(queues="of-another-service,low")
    relay.round()
    assert broker.published == [taken]


def test_what_waits_in_a_queue_that_is_not_declared_is_looked_for_as_well(broker):
    worker(queues="made-when-used,another")
    lost = task(published_at=NOW - timedelta(seconds=60), queue="made-when-used")
    kept = task(published_at=NOW - timedelta(seconds=60), queue="another")
    broker.empty = {"made-when-used"}

    Relay().round()

    assert broker.published == [lost]
    assert DurableTask.objects.get(id=kept).published_at is not None


def test_a_long_backlog_takes_many_rounds_and_dead_workers_are_looked_for_in_between(broker, clock, monkeypatch):
    monkeypatch.setattr(module, "BATCH", 2)
    monkeypatch.setattr(module, "BATCHES", 2)
    waiting = [task(published_at=None, due_at=NOW + timedelta(microseconds=number)) for number in range(9)]
    held = task(state=State.RUNNING, worker_id=worker(stopped_at=NOW), attempt=1)
    relay = Relay(clock)

    assert relay.round() == 0.0, "the next round begins at once"
    assert len(broker.published) == 4
    assert state(held) == State.QUEUED
    while relay.round() == 0.0:
        assert relay.publishing
    assert set(broker.published) == {*waiting, held}


def test_a_relay_publishes_as_long_as_it_gets_on_and_not_while_the_broker_or_its_own_code_refuses(broker, monkeypatch):
    relay = Relay()
    relay.round()
    assert relay.publishing, "nothing is due"

    due = task(published_at=None)
    for error in (PublishError("gone"), RefusedError("TypeError: no channel takes this")):
        monkeypatch.setattr(module, "publish", lambda _, error=error: (_ for _ in ()).throw(error))
        for _ in range(2):
            relay.round()
            assert not relay.publishing, error

    monkeypatch.setattr(module, "publish", broker.publish)
    task(published_at=None)
    relay.round()
    assert relay.publishing, f"others are published while {due} waits"


@pytest.fixture
def poison(broker, monkeypatch):
    """A message that cannot be published; `poison.all` makes every other one like it."""
    poison = SimpleNamespace(id=task(published_at=None), all=False, tries=0)

    def publish(messages) -> None:
        ids = [message.headers["id"] for message in messages]
        poison.tries += ids == [poison.id]
        if poison.all or poison.id in ids:
            raise RefusedError("TypeError: no channel takes this")
        broker.publish(messages)

    monkeypatch.setattr(module, "publish", publish)
    return poison


def test_a_message_that_cannot_be_published_holds_no_other_and_is_a_dead_letter_at_last(broker, clock, poison, caplog):
    others = [task(published_at=None, due_at=NOW + timedelta(microseconds=number)) for number in range(3)]
    relay = Relay(clock)

    relay.round()
    assert broker.published == others
    assert state(poison.id) == State.QUEUED
    assert "1 cannot be published" in relay.status()
    assert "the broker does not answer" not in relay.status()
    assert "no channel takes this" in caplog.text
    relay.round()
    assert poison.tries == 1, "it is not tried again at once"

    for _ in range(module.REFUSED_TRIES):
        clock.seconds += module.REFUSED_PAUSE_MAX
        relay.round()
    row = DurableTask.objects.get(id=poison.id)
    assert (row.state, row.error) == (State.DEAD, "it could not be published: TypeError: no channel takes this")
    assert task_error(row) == "RefusedError"


def test_as_long_as_nothing_can_be_published_no_task_is_given_up_for_it(broker, clock, poison):
    poison.all = True
    relay = Relay(clock)
    for _ in range(20):
        relay.round()
        clock.seconds += module.REFUSED_PAUSE_MAX
    assert state(poison.id) == State.QUEUED
    assert broker.published == []

    poison.all, poison.id = False, ""
    relay.round()
    assert len(broker.published) == 1


def test_what_ended_long_ago_is_deleted_and_dead_letters_stay(clock):
    day = timedelta(seconds=24 * 3600 + 1)
    old, young, dead = (
        task(state=state, finished_at=at)
        for state, at in ((State.FINISHED, NOW - day), (State.DISCARDED, NOW), (State.DEAD, NOW - 7 * day))
    )
    former = Worker.objects.create(
        id=uuid.uuid4(), name="one@h", pid=1, started_at=NOW - day, beat_at=NOW - day, stopped_at=NOW - day
    )
    Relay(clock).round()
    assert {str(row.id) for row in DurableTask.objects.all()} == {young, dead}, f"{old} was kept long enough"
    assert not Worker.objects.filter(id=former.id).exists()


def test_a_relay_without_the_projects_application_says_which_broker_it_takes_and_what_to_set(monkeypatch, caplog):
    monkeypatch.setattr("drumline.management.commands.relay.is_found", lambda: False)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    command = load_command_class("drumline", "relay")
    command.stopping = True

    command.handle()

    assert "celery_application_not_found" in caplog.text
    assert application().connection_for_write().as_uri() in caplog.text
    assert "DRUMLINE_CELERY_APP" in caplog.text
