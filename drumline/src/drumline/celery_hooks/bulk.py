"""One task sent many times, each time with other arguments."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from celery import Signature, Task
from kombu.utils.uuid import uuid

from drumline.application import application

# Options of `apply_async` that belong to one task.
OF_ONE_TASK = {"args", "kwargs", "task_id", "shadow", "argsrepr", "kwargsrepr", "producer", "publisher", "connection"}

Arguments = Sequence[Any] | Mapping[str, Any]


def send_many(task: "Task[..., Any]", arguments: Iterable[Arguments], **options: Any) -> list[str]:
    """Send a task once for each element of `arguments`; return the ids in the same order.

    An element holds the positional arguments of one task as a list or tuple, or its keyword arguments as a mapping.
    `options` are those of `apply_async`, and hold for every task: `send_many(task, [(1,), (2,)], queue="low")`. All rows are
    written in one transaction, the caller's if there is one, and published after its commit.

    Raise TypeError for what is no task, for arguments that the task does not take, and for an option that belongs to one
    task; nothing is sent then.
    """
    if wrong := sorted(OF_ONE_TASK & options.keys()):
        raise TypeError(
            f"send_many() does not take {', '.join(wrong)}, which belongs to one task. Use apply_async() for it"
        )
    # A proxy of `shared_task` says that it is a task.
    if not isinstance(task, Task):
        raise TypeError(f"send_many() was given {task!r}, {_use_instead(task)}")
    app = application()
    # Of `shared_task` there is only a proxy.
    task = app.tasks[task.name]
    each = _checked(task, arguments)
    as_it_comes = type(task).apply_async is Task.apply_async and type(task).shadow_name is Task.shadow_name
    ids = []
    with app.producer_or_acquire() as producer:
        for args, kwargs in each:
            if as_it_comes and producer.has_first():
                task_id = uuid()
                producer.copy(task_id, args, kwargs)
            else:
                task_id = task.apply_async(args, kwargs, producer=producer, add_to_parent=False, **options).id
            ids.append(task_id)
    return ids


def _use_instead(given: object) -> str:
    """Return what the thing is that was given in the place of a task, and what to give instead of it."""
    if isinstance(given, Signature):
        return (
            "which is a signature. Use its task, and give the signature's arguments with each element and its options as "
            "options: send_many(task, [(1,), (2,)], queue=…)"
        )
    if isinstance(given, str):
        return f"which is a name. Use the task itself: send_many(app.tasks[{given!r}], …)"
    if hasattr(given, "enqueue"):
        return "which is a task of Django's framework. Use its enqueue() once for each element"
    return "which is no Celery task. Use a function that is decorated with @shared_task or @app.task"


def _checked(task: Any, arguments: Iterable[Arguments]) -> list[tuple[Any, dict[str, Any]]]:
    checked: list[tuple[Any, dict[str, Any]]] = []
    check = task.__header__ if task.typing else None
    for number, each in enumerate(arguments):
        args: Sequence[Any] = ()
        kwargs: dict[str, Any] = {}
        if isinstance(each, Mapping):
            kwargs = dict(each)
        elif isinstance(each, (list, tuple)):
            args = each
        else:
            raise TypeError(
                f"send_many() was given {each!r} as the arguments of task {number}. Use a tuple or list of positional "
                f"arguments, as in ({each!r},), or a mapping of keyword arguments"
            )
        if check is not None:
            check(*args, **kwargs)
        checked.append((args, kwargs))
    return checked
