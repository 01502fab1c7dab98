"""Whose a task is: said by the sender, kept by the ledger, never inherited; and what says so in vain is refused."""

import json

import pytest
from celery import chain, chord, current_app, group, signature
from celery.app.task import Context

from drumline import send_many
from drumline.message import Message
from drumline.models import DurableTask
from drumline.sending.owners import owned, task_owner

pytestmark = pytest.mark.django_db


def owners() -> list[str | None]:
    return [task_owner(task) for task in DurableTask.objects.order_by("created_at")]


def test_the_owner_is_kept_with_the_message_beside_other_headers_and_options():
    task = signature("drumline.ping", options={"headers": {"more": 1}, "queue": "low"}, immutable=True)
    owned(task, owner=7).apply_async(countdown=60)

    assert owners() == ["7"]
    row = DurableTask.objects.get()
    assert row.queue == "low"
    assert Message.loads(row.message).headers["more"] == 1
    assert task.options["headers"] == {"more": 1}


def test_a_retry_keeps_the_owner():
    owned(signature("drumline.ping"), owner=7).apply_async()
    message = Message.loads(DurableTask.objects.get().message)
    args, kwargs, _ = json.loads(message.body)
    DurableTask.objects.all().delete()

    request = Context(message.headers, args=args, kwargs=kwargs, called_directly=False, delivery_info={})
    current_app.tasks["drumline.ping"].signature_from_request(request, args, kwargs, countdown=5).apply_async()

    assert owners() == ["7"]


def test_in_a_chain_each_wrapped_task_has_the_owner():
    chain(owned(signature("drumline.ping"), owner=7), owned(signature("drumline.ping"), owner=8)).apply_async()
    assert owners() == ["7"]
    [following] = json.loads(Message.loads(DurableTask.objects.get().message).body)[2]["chain"]
    assert following["options"]["headers"]["owner"] == "8"


def ping(**options):
    return signature("drumline.ping", options=options, immutable=True)


@pytest.mark.usefixtures("no_broker")
@pytest.mark.parametrize(
    ("option", "instead"),
    [
        ({"owner": 7}, r"is sent with owner=7, .* Use owned\(task\.s\(…\), owner=…\)\.apply_async"),
        ({"max_attempts": 5}, r"is sent with max_attempts=5, .* Set it there: @shared_task\(max_attempts=…\)"),
    ],
    ids=["owner", "max_attempts"],
)
@pytest.mark.parametrize(
    "send",
    [
        lambda option: current_app.tasks["drumline.ping"].apply_async(**option),
        lambda option: current_app.send_task("drumline.ping", **option),
        lambda option: send_many(current_app.tasks["drumline.ping"], [(), ()], **option),
        lambda option: ping(**option).delay(),
        lambda option: group(ping(), ping(**option)).apply_async(),
        lambda option: chain(ping(), ping(), ping(**option)).apply_async(),
        lambda option: chord([ping(), ping()], ping(**option)).apply_async(),
        lambda option: chain(ping(), group(ping(), ping(**option)), ping()).apply_async(),
        lambda option: ping().apply_async(link=ping(**option)),
        lambda option: chain(ping(), ping(link=[ping(**option)])).apply_async(),
        lambda option: ping().apply_async(link_error=[ping(), ping(**option)]),
    ],
    ids=[
        "task",
        "name",
        "many",
        "signature",
        "group",
        "chain",
        "chord",
        "group in a chain",
        "link",
        "later link",
        "link_error",
    ],
)
def test_an_option_that_no_call_has_is_refused_before_anything_is_sent(send, option, instead):
    with pytest.raises(TypeError, match=f"^drumline.ping {instead}"):
        send(option)

    assert owners() == []


@pytest.mark.usefixtures("no_broker")
def test_what_the_ledger_does_not_take_may_have_any_option():
    chain(ping(), ping(owner=7, max_attempts=5, durable=False)).apply_async()

    assert owners() == [None]


@pytest.mark.usefixtures("no_broker")
def test_a_stamp_of_the_same_name_is_a_stamp_in_a_retry_as_well():
    stamped = ping()
    stamped.stamp(owner="ada")
    stamped.apply_async()
    message = Message.loads(DurableTask.objects.get().message)
    args, kwargs, _ = json.loads(message.body)
    DurableTask.objects.all().delete()

    request = Context(message.headers, args=args, kwargs=kwargs, called_directly=False, delivery_info={})
    current_app.tasks["drumline.ping"].signature_from_request(request, args, kwargs, countdown=5).apply_async()

    assert Message.loads(DurableTask.objects.get().message).headers["stamped_headers"] == ["owner"]


@pytest.mark.usefixtures("no_broker")
def test_a_task_with_attempts_of_its_own_is_sent_and_retried_with_them(monkeypatch):
    task = current_app.tasks["drumline.ping"]
    monkeypatch.setattr(task, "max_attempts", 5, raising=False)
    chord([ping(), ping()], ping()).apply_async()
    message = Message.loads(DurableTask.objects.first().message)
    args, kwargs, embedded = json.loads(message.body)
    DurableTask.objects.all().delete()

    request = {**message.headers, **message.properties, **embedded, "args": args, "kwargs": kwargs, "delivery_info": {}}
    task.signature_from_request(Context(request), args, kwargs, countdown=5).apply_async()

    assert DurableTask.objects.get().max_attempts == 5
