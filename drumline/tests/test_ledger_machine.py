"""Deliveries that come twice, late or never, workers that die, operators who interfere: the ledger against a model.

The model knows each run by itself; the ledger knows only numbers. Whatever the order of events, both must agree. A run
that was displaced stays in the bundle: its close lingers, and arrives when something else has become of its task.
"""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
from celery import current_app
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from drumline.ledger import ends, operators, recovery
from drumline.ledger.store import RunKey, store
from drumline.message import Message
from drumline.models import Announcement, DurableTask

State = DurableTask.State
# Two workers; a life that was given up is followed by another under a new id.
WORKERS = (0, 1)
MAX_ATTEMPTS = 3
INTERVENTIONS = (
    "send_again_under_the_same_id",
    "worker_is_given_up",
    "worker_is_given_up_and_works_on",
    "requeue",
    "discard",
    "revoke",
    "lose_in_the_broker_and_publish_again",
)


@dataclass
class Task:
    """What the model knows of a task."""

    id: uuid.UUID
    state: State = State.QUEUED
    # The run that holds it; any other has lost it, whether it has noticed or not.
    holder: "Run | None" = None
    deaths: int = 0
    # How often it was replaced under its id.
    generation: int = 0
    # What its last run left.
    result: str | None = None


@dataclass(eq=False)
class Run:
    """A start that the ledger allowed."""

    task: Task
    worker: uuid.UUID
    key: RunKey
    # What it was started by: a retry is made of this, whatever has become of the row.
    message: Message

    @property
    def generation(self) -> int:
        return self.message.generation

    def another_message(self, **headers: int) -> Message:
        message = Message.loads(self.message.dumps())
        message.headers.update(headers)
        return message


class Ledger(RuleBasedStateMachine):
    """Every way in which something happens to a row."""

    tasks = Bundle("tasks")
    runs = Bundle("runs")
    closes = Bundle("closes")

    def __init__(self) -> None:
        super().__init__()
        DurableTask.objects.all().delete()
        Announcement.objects.all().delete()
        self.ledger = store()
        self.model: list[Task] = []
        self.lives = [uuid.uuid4() for _ in WORKERS]

    def teardown(self) -> None:
        self.ledger.reconnect()

    # Few, so that much happens to each.
    @precondition(lambda self: len(self.model) < 2)
    @rule(target=tasks)
    def send(self) -> Task:
        task = Task(uuid.uuid4())
        current_app.tasks["drumline.ping"].apply_async(task_id=str(task.id))
        self.model.append(task)
        return task

    @precondition(lambda self: any(task.state == State.QUEUED for task in self.model))
    @rule(target=runs, task=tasks, worker=st.sampled_from(WORKERS))
    def deliver(self, task: Task, worker: int) -> object:
        """A message rings, for the first time or once more."""
        return self._claim(task, self.lives[worker], [])

    @rule(target=runs, task=tasks, run=consumes(runs))
    def deliver_to_who_has_just_ended_another(self, task: Task, run: Run) -> object:
        """The end of one run is written with the claim of the next."""
        if run.worker not in self.lives:
            return run
        # The row that it held is closed, not queued: it cannot be the one that is claimed.
        claimed = self._claim(task, run.worker, [run])
        self._end(run, State.FINISHED)
        return claimed

    @rule(target=closes, run=consumes(runs))
    def succeed(self, run: Run) -> object:
        self._end(run, State.FINISHED)
        return self._close(lambda: self.ledger.finish(run.worker, [run.key]))

    @rule(target=closes, run=consumes(runs))
    def succeed_with_a_result(self, run: Run) -> object:
        result = f'"run {run.key.run}, \\u0000"'
        if self._end(run, State.FINISHED):
            run.task.result = result
        return self._close(lambda: self.ledger.succeed(run.worker, run.key, result))

    @rule(target=closes, run=consumes(runs))
    def fail(self, run: Run) -> object:
        self._end(run, State.DEAD)
        return self._close(lambda: self.ledger.fail(run.worker, run.key, "error\0", "traceback\udce9"))

    @rule(target=closes, run=consumes(runs))
    def retry(self, run: Run) -> object:
        self._end(run, State.QUEUED)
        message = run.another_message(retries=(run.message.headers.get("retries") or 0) + 1)
        return self._close(lambda: self.ledger.requeue(run.worker, run.key, message, "retry"))

    @rule(target=closes, run=consumes(runs))
    def replace_by_one_task(self, run: Run) -> object:
        """The other task takes its place when it ends."""
        if self._end(run, State.QUEUED):
            run.task.generation, run.task.deaths = run.generation + 1, 0
        message = run.another_message(retries=0, replaced_task_nesting=run.generation + 1)
        return self._close(lambda: self.ledger.requeue(run.worker, run.key, message, "replaced"))

    @rule(target=runs, run=runs, starts=st.booleans())
    def replace_by_a_chain(self, run: Run, *, starts: bool) -> object:
        """Its last task is sent under the same id by whoever ran the one before, and may start before this run's close."""
        nesting, task = run.generation + 1, run.task
        current_app.tasks["drumline.ping"].apply_async(task_id=str(task.id), replaced_task_nesting=nesting)
        if task.generation < nesting:
            task.state, task.holder, task.deaths, task.generation = State.QUEUED, None, 0, nesting
            task.result = None
        return self._claim(task, run.worker, []) if starts else multiple()

    @rule(target=closes, run=consumes(runs))
    def give_back(self, run: Run) -> object:
        self._end(run, State.QUEUED)
        return self._close(lambda: self.ledger.give_back(run.worker, run.key))

    @rule(close=consumes(closes))
    def write_a_close_again(self, close: Callable[[], None]) -> None:
        """The connection was lost before the database's answer."""
        close()

    @rule(run=consumes(runs))
    def its_process_dies(self, run: Run) -> None:
        told = recovery.task_lost(run.task.id, worker_id=run.worker, error="killed", generation=run.generation)
        same = run.task.generation == run.generation
        assert told == (self._lose(run.task, run.worker) if same else None)

    @rule(run=consumes(runs))
    def reach_the_hard_time_limit(self, run: Run) -> None:
        holder = run.task.holder
        mine = holder is not None and (holder.worker, holder.generation) == (run.worker, run.generation)
        told = ends.task_failed(run.task.id, worker_id=run.worker, error="too slow", generation=run.generation)
        assert told == mine
        if holder and mine:
            self._end(holder, State.DEAD)

    @rule(what=st.sampled_from(INTERVENTIONS), task=tasks, worker=st.sampled_from(WORKERS))
    def something_else_happens(self, what: str, task: Task, worker: int) -> None:
        """One rule, so that most steps are starts and ends."""
        getattr(self, what)(worker if "worker" in what else task)

    def send_again_under_the_same_id(self, task: Task) -> None:
        current_app.tasks["drumline.ping"].apply_async(task_id=str(task.id))

    def worker_is_given_up(self, worker: int) -> None:
        """Dead, or silent and about to notice."""
        life, self.lives[worker] = self.lives[worker], uuid.uuid4()
        self._release(life)

    def worker_is_given_up_and_works_on(self, worker: int) -> None:
        """The ends of its runs may still arrive, and must change nothing."""
        self._release(self.lives[worker])

    def requeue(self, task: Task) -> None:
        again = task.state in (State.DEAD, State.DISCARDED)
        assert operators.requeue([task.id], by="ada") == again
        if again:
            task.state, task.deaths = State.QUEUED, 0

    def discard(self, task: Task) -> None:
        given_up = task.state in (State.QUEUED, State.DEAD)
        assert operators.discard([task.id], reason="no use", by="ada") == given_up
        if given_up:
            task.state = State.DISCARDED

    def revoke(self, task: Task) -> None:
        waits = task.state == State.QUEUED
        assert ends.task_revoked(task.id) == waits
        if waits:
            task.state = State.DISCARDED
            assert Announcement.objects.filter(task_id=task.id).exists()

    def lose_in_the_broker_and_publish_again(self, task: Task) -> None:
        """What the relay does changes when a message was published, and nothing else."""
        rows = DurableTask.objects.filter(id=task.id, state=State.QUEUED)
        rows.update(published_at=None)
        rows.update(published_at=datetime.now(UTC))

    @invariant()
    def the_ledger_agrees(self) -> None:
        rows = {row.id: row for row in DurableTask.objects.all()}
        assert rows.keys() == {task.id for task in self.model}, "no row is lost, none is made up"
        for task in self.model:
            row = rows[task.id]
            assert row.state == task.state
            assert row.generation == task.generation
            assert row.result == task.result
            assert (row.state == State.RUNNING) == (task.holder is not None)
            if task.holder:
                assert (row.worker_id, row.run) == (task.holder.worker, task.holder.key.run)

    def _claim(self, task: Task, worker: uuid.UUID, ended: list[Run]) -> object:
        rings = datetime.now(UTC).timestamp()
        key = self.ledger.claim(task.id, rings, worker, [run.key for run in ended])
        assert (key is not None) == (task.state == State.QUEUED)
        if key is None:
            return multiple()
        message = Message.loads(DurableTask.objects.get(id=task.id).message)
        task.state, task.holder = State.RUNNING, Run(task, worker, key, message)
        return task.holder

    def _close(self, write: Callable[[], None]) -> Callable[[], None]:
        write()
        return write

    def _end(self, run: Run, state: State) -> bool:
        """Only the run that holds the task can end it."""
        holds = run.task.holder is run
        if holds:
            run.task.state, run.task.holder = state, None
        return holds

    def _release(self, life: uuid.UUID) -> None:
        held = sum(self._lose(task, life) is not None for task in self.model)
        assert recovery.worker_release(life, error="killed") == held

    def _lose(self, task: Task, worker: uuid.UUID) -> State | None:
        if task.holder is None or task.holder.worker != worker:
            return None
        task.deaths += 1
        task.state, task.holder = State.QUEUED if task.deaths < MAX_ATTEMPTS else State.DEAD, None
        return task.state


# On PostgreSQL the ledger has a connection of its own, which sees what is committed.
@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("no_broker")
def test_whatever_happens_in_whatever_order_the_ledger_agrees_with_the_model():
    run_state_machine_as_test(
        Ledger,
        settings=settings(derandomize=True, max_examples=40, stateful_step_count=40, deadline=None, database=None),
    )
