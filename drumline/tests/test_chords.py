"""A chord's body is sent once, after the last member, whatever runs twice and dies in between."""

import uuid

import pytest
from celery import chord, current_app, states
from celery.app.task import Context
from django_celery_results.models import ChordCounter, TaskResult

from drumline.celery_hooks import chords
from drumline.message import Message
from drumline.models import DurableTask

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("no_broker")]


@pytest.fixture
def members() -> list[Context]:
    """A chord of three, sent; each as the worker knows it."""
    ping = current_app.tasks["drumline.ping"]
    chord([ping.si() for _ in range(3)], ping.si().set(task_id=str(uuid.uuid4()))).apply_async()
    requests = []
    for row in DurableTask.objects.all():
        message = Message.loads(row.message)
        embedded = current_app.backend.decode(message.body)[2]
        requests.append(Context({**message.headers, **embedded}))
    return requests


def end(request, state=states.SUCCESS):
    backend = current_app.backend
    if state == states.SUCCESS:
        backend.mark_as_done(request.id, "pong", request=request)
    else:
        backend.mark_as_failure(request.id, RuntimeError("for good"), request=request)


def bodies() -> int:
    return DurableTask.objects.count() - 3


def test_the_members_of_a_chord_store_their_results_whatever_the_task_says(members):
    assert current_app.tasks["drumline.ping"].ignore_result is False
    assert [request.ignore_result for request in members] == [False] * 3
    current_app.tasks["testproject.work"].apply_async(args=[1], chord={"task": "x"})
    row = DurableTask.objects.get(name="testproject.work")
    assert Message.loads(row.message).headers["ignore_result"] is False


def test_the_body_is_sent_after_the_last_member(members):
    for request in members[:2]:
        end(request)
        assert bodies() == 0
    end(members[2])
    assert bodies() == 1
    assert not ChordCounter.objects.exists()


def test_a_member_that_runs_again_is_not_counted_again(members):
    for request in (members[0], members[0], members[0], members[1], members[1]):
        end(request)
    assert bodies() == 0, "one member has not ended"
    end(members[2])
    assert bodies() == 1


def test_the_count_is_checked_against_the_results_where_they_are_written(members, replica):  # noqa: ARG001
    for request in (members[0], members[0], members[0]):
        chords.on_chord_part_return(current_app.backend, request, states.SUCCESS, None)

    assert ChordCounter.objects.get().count == 3, "no member has stored a result"


def test_a_member_that_runs_again_after_the_end_sends_no_second_body(members):
    for request in [*members, members[1]]:
        end(request)
    assert bodies() == 1


def test_a_body_that_could_not_be_written_is_sent_by_the_member_that_runs_again(members, monkeypatch):
    for request in members[:2]:
        end(request)
    with monkeypatch.context() as patch:
        patch.setattr(chords, "trigger_callback", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            end(members[2])
    assert bodies() == 0
    end(members[2])
    assert bodies() == 1


def test_a_failed_member_fails_the_body_which_is_then_not_sent(members):
    for request, state in zip(members, (states.SUCCESS, states.FAILURE, states.SUCCESS), strict=True):
        end(request, state)
    assert bodies() == 0
    [body] = TaskResult.objects.filter(status=states.FAILURE).exclude(task_id__in=[request.id for request in members])
    assert "for good" in body.result
