"""Many tasks at once: each is what it would be if it had been sent alone."""

from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from celery import current_app, group, signals
from celery.app.routes import Router
from celery.local import Proxy
from celery.utils.saferepr import saferepr
from django.db import transaction
from hypothesis import example, given
from hypothesis import strategies as st
from kombu.exceptions import EncodeError
from testproject.tasks import add as shared_add

from drumline import send_many
from drumline.celery_hooks.copies import shown
from drumline.message import Message
from drumline.models import DurableTask

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("no_broker")]


@pytest.fixture
def add():
    return current_app.tasks["testproject.add"]


def messages() -> dict[str, Message]:
    return {message.headers["id"]: message for message in map(Message.loads, rows())}


def the_task(task):
    return task


def rows() -> list[str]:
    return list(DurableTask.objects.values_list("message", flat=True))


def same(copy: Message, alone: Message) -> None:
    """Fail unless both are the same, but for what belongs to one task."""
    for name in set(alone.headers) - {"id", "root_id", "expires", "group", "group_index"}:
        assert copy.headers[name] == alone.headers[name], name
    assert copy.headers.keys() == alone.headers.keys()
    assert copy.headers["root_id"] == copy.properties["correlation_id"] == copy.headers["id"]
    assert copy.body == alone.body
    for part in ("content_type", "content_encoding", "exchange", "routing_key", "queue"):
        assert getattr(copy, part) == getattr(alone, part), part
    assert {**copy.properties, "correlation_id": ""} == {**alone.properties, "correlation_id": ""}


@pytest.fixture
def published():
    """The ids that Celery's signals name before and after a message is made; a receiver adds a header of its own."""
    seen: dict[str, list[str]] = {"before": [], "after": []}

    def before(headers, body, properties, **_) -> None:
        headers["theirs"] = f"{headers['id']} {body[0]}"
        seen["before"].append(properties["correlation_id"])

    def after(headers, **_) -> None:
        seen["after"].append(headers["id"])

    signals.before_task_publish.connect(before)
    signals.after_task_publish.connect(after)
    yield seen
    signals.before_task_publish.disconnect(before)
    signals.after_task_publish.disconnect(after)


@pytest.mark.parametrize(
    "options",
    [
        {"queue": "low", "priority": 3, "ignore_result": True},
        {"headers": {"mine": "x"}},
        {"expires": 60.0},
        {"countdown": 60.0},
        {},
    ],
)
def test_each_message_is_the_one_that_apply_async_makes_of_the_same_arguments(add, options):
    arguments = [(1, 2), {"x": 3, "y": "ü"}, [4, 5]]

    ids = send_many(add, arguments, **options)

    assert len(set(ids)) == len(messages()) == 3
    for task_id, each in zip(ids, arguments, strict=True):
        args, kwargs = ((), each) if isinstance(each, dict) else (each, {})
        other = add.apply_async(args, kwargs, **options).id
        alone, copy = messages()[other], messages()[task_id]
        for message in (alone, copy):
            message.headers["eta"] = bool(message.headers["eta"])
        same(copy, alone)


def test_each_member_of_a_group_is_what_it_would_be_alone(add, published):
    sent = group(add.s(number, 1) for number in range(3)).apply_async()

    ids = [result.id for result in sent.results]
    members = [messages()[task_id] for task_id in ids]
    assert published == {"before": ids, "after": ids}
    assert {member.headers["group"] for member in members} == {sent.id}
    assert [member.headers["group_index"] for member in members] == [0, 1, 2]
    assert [member.headers.pop("theirs") for member in members] == [f"{ids[n]} ({n}, 1)" for n in range(3)]
    for number, member in enumerate(members):
        other = add.delay(number, 1).id
        alone = messages()[other]
        assert alone.headers.pop("theirs")
        same(member, alone)


def test_members_that_differ_in_more_than_their_arguments_are_not_copies_of_each_other(add):
    other = current_app.tasks["testproject.work"]
    headers = {"mine": 0}
    with current_app.producer_or_acquire() as producer:
        for number in range(2):
            headers["mine"] = number
            add.apply_async((number, 0), headers=headers, producer=producer)
    members = [add.si(0, 1), add.si(0, 2).set(queue="low"), add.si(0, 3), other.si(4), other.si(5).set(priority=9)]
    group(members).apply_async()

    found = {
        (message.headers["task"].split(".")[1], message.headers["argsrepr"]): (
            message.headers.get("mine"),
            message.queue,
            message.properties.get("priority", 0),
        )
        for message in messages().values()
    }
    assert found == {
        ("add", "(0, 0)"): (0, "default", 0),
        ("add", "(1, 0)"): (1, "default", 0),
        ("add", "(0, 1)"): (None, "default", 0),
        ("add", "(0, 2)"): (None, "low", 0),
        ("add", "(0, 3)"): (None, "default", 0),
        ("work", "(4,)"): (None, "default", 0),
        ("work", "(5,)"): (None, "default", 9),
    }


def test_a_transaction_that_is_rolled_back_leaves_none_of_them(add):
    with transaction.atomic():
        assert len(send_many(add, ((number, 1) for number in range(5)))) == 5
        transaction.set_rollback(True)

    assert rows() == []
    assert send_many(add, []) == []


@pytest.mark.parametrize(
    ("given", "arguments", "options", "named"),
    [
        (the_task, [(1, 2), (1,)], {}, "missing a required argument|missing 1 required"),
        (the_task, [(1, 2), 7], {}, r"was given 7 as the arguments of task 1\. Use a tuple .*\(7,\)"),
        (the_task, [(1, 2), "ab"], {}, "was given 'ab'"),
        (the_task, [(1, 2), (1, object())], {}, "not JSON serializable"),
        (
            the_task,
            [(1, 2)],
            {"task_id": "x", "shadow": "y"},
            "does not take shadow, task_id, which belongs to one task",
        ),
        (
            lambda add: add.s(1).set(queue="low"),
            [(2,)],
            {},
            r"add\(1\), which is a signature\. Use its task, .*queue=…",
        ),
        (lambda add: group(add.s(1)), [(2,)], {}, "which is a signature"),
        (
            lambda add: add.name,
            [(1, 2)],
            {},
            r"'testproject\.add', which is a name\. Use .*app\.tasks\['testproject\.add'\]",
        ),
        (
            lambda add: add.run,
            [(1, 2)],
            {},
            "which is no Celery task. Use a function that is decorated with @shared_task",
        ),
        (
            lambda _: SimpleNamespace(enqueue=None),
            [(1, 2)],
            {},
            r"which is a task of Django's framework\. Use its enqueue",
        ),
    ],
)
def test_what_no_task_takes_is_named_and_nothing_is_sent(add, given, arguments, options, named):
    with pytest.raises((TypeError, EncodeError), match=named):
        send_many(given(add), arguments, **options)

    assert rows() == []


def test_the_proxy_that_shared_task_leaves_in_a_module_is_a_task():
    assert type(shared_add) is Proxy

    [task_id] = send_many(shared_add, [(1, 2)])

    assert messages()[task_id].headers["task"] == "testproject.add"


def test_a_route_that_depends_on_the_arguments_is_asked_for_each(add, monkeypatch):
    def route(_name, args, *_, **__):
        return {"queue": "high" if args[0] else "low"}

    amqp = current_app.amqp
    monkeypatch.setattr(amqp, "router", Router([route], amqp.queues, app=current_app))

    ids = send_many(add, [(0, 1), (1, 1), (0, 1)])

    assert [messages()[task_id].queue for task_id in ids] == ["low", "high", "low"]


NESTED = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.binary(max_size=5),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=5), inside, max_size=3),
    max_leaves=10,
)


@given(st.lists(NESTED, max_size=4) | st.lists(NESTED, max_size=4).map(tuple) | st.dictionaries(st.text(), NESTED))
@example(("it's", "a\\b", "é\n", 'a"b', ""))
@example({"text": "x" * 200})
def test_the_arguments_of_a_copy_are_shown_as_celery_shows_them(arguments):
    assert shown(arguments, 100) == saferepr(arguments, 100)


def test_one_that_cannot_be_a_row_leaves_the_transaction_of_the_caller_as_it_was(add):
    def spoil(headers, body, **_) -> None:
        if tuple(body[0]) == (2000, 1):
            headers["theirs"] = object()

    signals.before_task_publish.connect(spoil)
    try:
        with transaction.atomic():
            with pytest.raises(TypeError):
                send_many(add, ((number, 1) for number in range(2001)))
            last = add.delay(1, 1).id
    finally:
        signals.before_task_publish.disconnect(spoil)

    assert list(messages()) == [last]


def test_more_than_fit_into_one_statement_are_all_written(add):
    ids = send_many(add, ((number, 1) for number in range(2500)))

    assert set(messages()) == set(ids)
    assert len(rows()) == 2500


def columns(task_id: str) -> dict[str, object]:
    """Return what does not belong to this task alone; a time that is the row's own is told as such."""
    row = DurableTask.objects.filter(pk=task_id).values().get()
    created = row.pop("created_at")
    own = {"id", "root_id", "message"}
    return {name: "now" if value == created else value for name, value in row.items() if name not in own}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"queue": "low", "priority": 3, "expires": datetime(2100, 1, 1, tzinfo=UTC)},
        {"eta": datetime(2100, 1, 1, tzinfo=UTC)},
    ],
)
def test_a_row_is_the_same_however_many_are_written_with_it(add, options):
    alone = add.apply_async((1, 1), **options).id
    few = send_many(add, [(1, 1)] * 2, **options)
    many = send_many(add, [(1, 1)] * 500, **options)

    assert [columns(task_id) for task_id in (few[0], many[0], many[-1])] == [columns(alone)] * 3


def test_an_id_that_is_there_does_not_keep_the_many_beside_it_from_being_written(add, caplog):
    reused = add.delay(1, 1).id
    members = [add.si(number, 2) for number in range(500)]
    members[300].set(task_id=reused)

    group(members).apply_async()

    assert len(rows()) == 500
    assert messages()[reused].body.startswith("[[1, 1]")
    assert caplog.text.count("task_id_reused") == caplog.text.count(f"task_id={reused}") == 1
