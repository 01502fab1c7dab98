"""What staff sees of the ledger, and what it may do."""

import uuid
from datetime import UTC, datetime

import pytest
from celery import current_app
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from drumline.models import DurableTask, Worker

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("no_broker")]

State = DurableTask.State
NOW = datetime.now(UTC)
LIST = "admin:drumline_durabletask_changelist"


@pytest.fixture
def viewer(client):
    user = get_user_model().objects.create_user("eye@example.com", "p", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_durabletask"))
    client.force_login(user)
    return client


def task(state: State = State.DEAD, **changes) -> str:
    task_id = str(uuid.uuid4())
    current_app.tasks["drumline.ping"].apply_async(task_id=task_id)
    DurableTask.objects.filter(id=task_id).update(state=state, **{"finished_at": NOW, **changes})
    return task_id


def act(client, action, *ids, query="", **more):
    data = {"action": action, "_selected_action": ids, **more}
    return client.post(reverse(LIST) + query, data, follow=True)


def shown(client, **query) -> set[str]:
    return {str(row.pk) for row in client.get(reverse(LIST), query).context["cl"].result_list}


def test_the_list_begins_with_dead_letters_and_filters(root):
    rows = {state: task(state) for state in State}
    high = task(State.QUEUED, queue="high")
    assert shown(root) == {rows[State.DEAD]}
    assert shown(root, state="waiting") == {rows[State.QUEUED], high}
    assert shown(root, state="waiting", queue="high") == {high}
    assert shown(root, state="running") == {rows[State.RUNNING]}
    assert shown(root, state="any") == {*rows.values(), high}


@pytest.mark.usefixtures("another_application")
def test_the_queues_to_choose_from_are_those_of_the_ledgers_application(root):
    page = root.get(reverse(LIST), {"state": "any"}).content.decode()
    assert all(f"queue={name}" in page for name in ("high", "default", "low"))


def test_a_search_finds_a_task_of_any_state_by_its_id_and_by_the_beginning_of_its_name(root):
    finished = task(State.FINISHED)
    assert shown(root, q=finished) == {finished}
    assert shown(root, q="drumline.") == {finished}
    assert shown(root, q="drumline.", state="dead") == set()
    assert shown(root, q="nothing") == set()


def test_the_list_never_counts_all_rows_nor_reads_what_it_does_not_show(root):
    task()
    with CaptureQueriesContext(connection) as captured:
        root.get(reverse(LIST), {"state": "any"})
    statements = [query["sql"] for query in captured if "drumline_ledger" in query["sql"]]
    counts = [statement for statement in statements if "COUNT(" in statement]
    assert counts
    assert all("LIMIT" in count for count in counts), counts
    assert not any('"traceback"' in statement for statement in statements)


def test_the_page_of_a_task_shows_arguments_traceback_history_and_worker(root):
    worker = Worker.objects.create(id=uuid.uuid4(), name="default-1@h", pid=1, started_at=NOW, beat_at=NOW)
    history = [{"at": "12:00", "what": "lost", "attempt": 1, "worker": str(worker.id), "error": "its <worker> died"}]
    dead = task(traceback="Traceback: <here>", history=history, worker_id=worker.id, error="KeyError")
    page = root.get(reverse("admin:drumline_durabletask_change", args=[dead])).content.decode()
    for text in (dead, "&quot;args&quot;: []", "Traceback: &lt;here&gt;", "its &lt;worker&gt; died", "default-1@h"):
        assert text in page
    assert 'name="_save"' not in page


def test_requeued_tasks_remember_who_did_it_and_others_are_counted(root):
    dead, finished = task(), task(State.FINISHED)
    answer = act(root, "requeue", dead, finished, query="?state=any")
    assert "1 of 2 requeued; 1 were neither dead nor discarded." in answer.content.decode()
    row = DurableTask.objects.get(id=dead)
    assert (row.state, row.history[-1]["by"]) == (State.QUEUED, "root")
    assert DurableTask.objects.get(id=finished).state == State.FINISHED


def test_a_discard_asks_for_a_reason_and_records_it(root):
    dead = task()
    asked = act(root, "discard", dead)
    assert 'name="reason"' in asked.content.decode()
    assert "A reason is required" not in asked.content.decode()
    assert "A reason is required" in act(root, "discard", dead, reason=" ").content.decode()
    assert DurableTask.objects.get(id=dead).state == State.DEAD
    act(root, "discard", dead, reason="sent twice")
    row = DurableTask.objects.get(id=dead)
    assert (row.state, row.error) == (State.DISCARDED, "discarded by root: sent twice")


def test_all_that_a_filter_leaves_are_requeued_at_once(root, monkeypatch):
    monkeypatch.setattr("drumline.ledger.operators.CHUNK", 2)
    dead = [task() for _ in range(5)]
    waiting_elsewhere = task(queue="high")
    act(root, "requeue", dead[0], query="?state=dead&queue=default", select_across="1", index="0")
    assert DurableTask.objects.filter(state=State.QUEUED).count() == 5
    assert DurableTask.objects.get(id=waiting_elsewhere).state == State.DEAD


def test_who_may_only_look_does_nothing(viewer):
    dead = task()
    assert shown(viewer) == {dead}
    act(viewer, "requeue", dead)
    act(viewer, "discard", dead, reason="x")
    assert DurableTask.objects.get(id=dead).state == State.DEAD


def test_workers_are_listed_by_status(root):
    for name, stopped_at in (("one@h", None), ("two@h", NOW)):
        Worker.objects.create(id=uuid.uuid4(), name=name, pid=1, started_at=NOW, beat_at=NOW, stopped_at=stopped_at)
    page = root.get(reverse("admin:drumline_worker_changelist"), {"status": "running"}).content.decode()
    assert "one@h" in page
    assert "two@h" not in page
