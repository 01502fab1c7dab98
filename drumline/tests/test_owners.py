"""Whose a task is: said by the sender, kept by the ledger, never inherited."""

import json

import pytest
from celery import chain, current_app, signature
from celery.app.task import Context

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
