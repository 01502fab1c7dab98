"""Deliveries that come twice, late or never, workers that die, operators who interfere: the ledger against a model.

The model knows each run by itself; the ledger knows only numbers. Whatever the order of events, both must agree.
"""

import uuid
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
    rule,
    run_state_machine_as_test,
)

from drumline.ledger import services
from drumline.ledger.message import Message
from drumline.ledger.statements import PortableStatements
from drumline.models import DurableTask

State = DurableTask.State
# Two workers; a life that was given up is followed by another under a new id.
WORKERS = (0, 1)
MAX_ATTEMPTS = 3


@dataclass
class Task:
    """What the model knows of a task."""

    id: uuid.UUID
    state: State = State.QUEUED
    # The run that holds it; any other has lost it, whether it has noticed or not.
    holder: "Run | None" = None
    deaths: int = 0


@dataclass(eq=False)
class Run:
    """A start that the ledger allowed."""

    task: Task
    worker: uuid.UUID
    attempt: int

    @property
    def end(self) -> tuple[uuid.UUID, int]:
        return self.task.id, self.attempt


class Ledger(RuleBasedStateMachine):
    """Every way in which something happens to a row."""

    tasks = Bundle("tasks")
    runs = Bundle("runs")

    def __init__(self) -> None:
        super().__init__()
        DurableTask.objects.all().delete()
        self.ledger = PortableStatements()
        self.model: list[Task] = []
        self.lives = [uuid.uuid4() for _ in WORKERS]

    @rule(target=tasks)
    def send(self) -> Task:
        task = Task(uuid.uuid4())
        current_app.tasks["core.ping"].apply_async(task_id=str(task.id))
        self.model.append(task)
        return task

    @rule(task=tasks)
    def send_again_under_the_same_id(self, task: Task) -> None:
        current_app.tasks["core.ping"].apply_async(task_id=str(task.id))

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

    @rule(run=consumes(runs))
    def succeed(self, run: Run) -> None:
        self.ledger.finish(run.worker, [run.end])
        self._end(run, State.FINISHED)

    @rule(run=consumes(runs))
    def fail(self, run: Run) -> None:
        self.ledger.fail(run.worker, run.end, "error", "traceback")
        self._end(run, State.DEAD)

    @rule(run=consumes(runs))
    def retry(self, run: Run) -> None:
        message = Message.loads(DurableTask.objects.get(id=run.task.id).message)
        message.headers["retries"] = (message.headers.get("retries") or 0) + 1
        self.ledger.requeue(run.worker, run.end, message, "retry")
        self._end(run, State.QUEUED)

    @rule(run=consumes(runs))
    def give_back(self, run: Run) -> None:
        self.ledger.give_back(run.worker, run.end)
        self._end(run, State.QUEUED)

    @rule(run=consumes(runs))
    def its_process_dies(self, run: Run) -> None:
        told = services.task_lost(run.task.id, worker_id=run.worker, error="killed")
        assert told == self._lose(run.task, run.worker)

    @rule(worker=st.sampled_from(WORKERS))
    def its_worker_is_given_up(self, worker: int) -> None:
        """Dead or only silent: the ends of its runs may still arrive, and must change nothing."""
        life, self.lives[worker] = self.lives[worker], uuid.uuid4()
        held = sum(self._lose(task, life) is not None for task in self.model)
        assert services.worker_release(life, error="killed") == held

    @rule(run=consumes(runs))
    def reach_the_hard_time_limit(self, run: Run) -> None:
        mine = run.task.holder is run
        assert services.task_failed(run.task.id, worker_id=run.worker, error="too slow") == mine
        self._end(run, State.DEAD)

    @rule(task=tasks)
    def requeue(self, task: Task) -> None:
        again = task.state in (State.DEAD, State.DISCARDED)
        assert services.tasks_requeue([task.id], by="ada") == again
        if again:
            task.state, task.deaths = State.QUEUED, 0

    @rule(task=tasks)
    def discard(self, task: Task) -> None:
        given_up = task.state in (State.QUEUED, State.DEAD)
        assert services.tasks_discard([task.id], reason="no use", by="ada") == given_up
        if given_up:
            task.state = State.DISCARDED

    @rule(task=tasks)
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
            assert (row.state == State.RUNNING) == (task.holder is not None)
            if task.holder:
                assert (row.worker_id, row.attempt) == (task.holder.worker, task.holder.attempt)

    def _claim(self, task: Task, worker: uuid.UUID, ended: list[Run]) -> object:
        rings = datetime.now(UTC).timestamp()
        attempt = self.ledger.claim(task.id, rings, worker, [run.end for run in ended])
        assert (attempt is not None) == (task.state == State.QUEUED)
        if attempt is None:
            return multiple()
        task.state, task.holder = State.RUNNING, Run(task, worker, attempt)
        return task.holder

    def _end(self, run: Run, state: State) -> None:
        """Only the run that holds the task can end it."""
        if run.task.holder is run:
            run.task.state, run.task.holder = state, None

    def _lose(self, task: Task, worker: uuid.UUID) -> State | None:
        if task.holder is None or task.holder.worker != worker:
            return None
        task.deaths += 1
        task.state, task.holder = State.QUEUED if task.deaths < MAX_ATTEMPTS else State.DEAD, None
        return task.state


@pytest.mark.django_db
def test_whatever_happens_in_whatever_order_the_ledger_agrees_with_the_model(monkeypatch):
    monkeypatch.setattr("drumline.ledger.enqueue.publish", lambda messages: None)  # noqa: ARG005
    monkeypatch.setattr("drumline.ledger.services.announce_failure", lambda row, error: None)  # noqa: ARG005
    run_state_machine_as_test(
        Ledger,
        settings=settings(derandomize=True, max_examples=40, stateful_step_count=40, deadline=None, database=None),
    )
