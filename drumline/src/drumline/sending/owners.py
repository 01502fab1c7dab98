"""Whose task it is: a header that the sender sets, and that the ledger keeps with the message.

It says who may ask what became of the task, so it is set where a person asks for something, and nowhere by itself. The
`user_id` that log lines carry would not do: it is inherited by everything that a task sends in turn, and is missing
where somebody is signed in by other means than a session.
"""

from typing import TYPE_CHECKING, Any

from drumline.message import Message
from drumline.models import DurableTask

if TYPE_CHECKING:
    from celery.canvas import Signature

HEADER = "owner"


def owned(task: "Signature[Any]", *, owner: object) -> "Signature[Any]":
    """Return the task with its owner, a user's primary key: `owned(signature(…), owner=user.pk).apply_async()`.

    A retry keeps the owner; what the task sends in turn has none. In a chain, group or chord, wrap each task that the
    owner may ask about.
    """
    return task.clone(headers={**task.options.get("headers", {}), HEADER: str(owner)})


def task_owner(task: DurableTask) -> str | None:
    """Return the owner's primary key as text; None when nobody in particular asked for the task."""
    return Message.loads(task.message).headers.get(HEADER)
