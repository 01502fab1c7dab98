"""The messages that a worker has taken from Redis: durable ones are counted and never written, all others are kombu's."""

import uuid
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from celery import current_app
from kombu import Connection

from drumline.broker import reserved
from drumline.message import Message
from drumline.models import DurableTask

pytest.importorskip("redis")
pytestmark = pytest.mark.django_db


class Channel:
    """A channel that notes what is asked of Redis."""

    unacked_key, unacked_index_key, do_restore = "unacked", "unacked_index", True

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.put_back: list[dict] = []

    @contextmanager
    def conn_or_acquire(self, _client=None):
        yield self

    def pipeline(self):
        return self

    def transaction(self, _work, *_keys) -> None:
        self.asked.append("restore")

    def _do_restore_message(self, payload, *_where, leftmost) -> None:
        assert leftmost
        self.put_back.append(payload)

    def __getattr__(self, command: str):
        def ask(*_):
            self.asked.append(command)
            return self

        return ask


@pytest.fixture
def qos(monkeypatch):
    from drumline.celery_hooks.ring import QoS

    monkeypatch.setattr(reserved, "_tasks", {})
    monkeypatch.setattr("drumline.sending.enqueue.publish", lambda _: None)
    qos = QoS(Channel(), prefetch_count=1)
    yield qos
    # Not at the end of this process.
    qos._on_collect.cancel()


def message(**headers) -> SimpleNamespace:
    tag = str(uuid.uuid4())
    headers = {"id": str(uuid.uuid4()), **headers}
    return SimpleNamespace(
        delivery_tag=tag, headers=headers, delivery_info={"exchange": "", "routing_key": "q"}, _raw={"tag": tag}
    )


def delivered(qos, **headers) -> SimpleNamespace:
    came = message(**headers)
    qos.append(came, came.delivery_tag)
    return came


def test_a_durable_message_occupies_its_place_until_it_is_acknowledged_and_redis_is_not_asked(qos):
    came = delivered(qos, durable=True)
    assert not qos.can_consume()
    assert reserved.tasks() == {uuid.UUID(came.headers["id"])}

    qos.ack(came.delivery_tag)

    assert qos.can_consume()
    assert reserved.tasks() == set()
    assert qos.channel.asked == []


def test_any_other_message_is_kept_in_redis_until_it_is_acknowledged(qos):
    came = delivered(qos)
    assert qos.channel.asked == ["zadd", "hset", "execute"]
    assert reserved.tasks() == set()

    qos.ack(came.delivery_tag)

    assert qos.channel.asked[3:] == ["zrem", "hdel", "execute"]


def test_a_durable_message_that_is_to_be_delivered_again_is_put_back(qos):
    came = delivered(qos, durable=True)
    qos.reject(came.delivery_tag, requeue=True)
    dropped = delivered(qos, durable=True)
    qos.reject(dropped.delivery_tag)

    assert qos.can_consume()
    assert qos.channel.put_back == [came._raw]
    assert reserved.tasks() == set()


def test_a_channel_that_closes_leaves_what_waits_to_the_relay_and_puts_the_others_back(qos):
    qos.prefetch_count = 0
    waits, runs = str(uuid.uuid4()), str(uuid.uuid4())
    for task_id in (waits, runs):
        current_app.tasks["drumline.ping"].apply_async(task_id=task_id)
    DurableTask.objects.filter(id=runs).update(state=DurableTask.State.RUNNING)
    delivered(qos, durable=True, id=waits)
    running = delivered(qos, durable=True, id=runs)
    delivered(qos)
    qos.channel.asked.clear()

    qos.restore_unacked_once()
    # It ends later, when its connection is gone.
    qos.ack(running.delivery_tag)

    assert DurableTask.objects.get(id=waits).published_at is None
    assert DurableTask.objects.get(id=runs).published_at is not None
    assert qos.channel.asked == ["restore"]


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1/0", "rediss://127.0.0.1:1/0", "sentinel://127.0.0.1:1/0"])
def test_every_url_of_redis_leads_to_the_channel_that_rings(url):
    from drumline.celery_hooks.ring import QoS

    assert Connection(url).get_transport_cls().Channel.QoS is QoS
    assert Connection(url).transport.driver_type == "redis"


@pytest.mark.parametrize("priority", [None, 0, 3, 12, 5.5, "5", "high"])
def test_what_is_pushed_is_what_kombu_would_publish(priority):
    from kombu import Producer

    from drumline.broker.publishing import _publish_one
    from drumline.celery_hooks import ring

    class Unconnected(ring.Channel):
        def __init__(self) -> None:
            self._expires, self.put = {}, []

        def _put(self, queue, message, **_) -> None:
            self.put.append((queue, message))

    channel = Unconnected()
    sent = Message(
        body='[[1, "ü"], {}, {}]',
        content_type="application/json",
        content_encoding="utf-8",
        headers={"id": "1", "task": "t", "eta": "2026-01-01T00:00:00+00:00"},
        properties={"correlation_id": "1", "reply_to": "", "priority": priority},
        exchange="",
        routing_key="q",
        queue="q",
    )
    _publish_one(Producer(channel, auto_declare=False), sent)
    [(queue, theirs)] = channel.put
    ours = channel._envelope(sent)
    for envelope in (ours, theirs):
        assert envelope["headers"].pop("published")
        assert envelope["properties"].pop("delivery_tag")

    assert channel.takes(sent)
    assert ours == theirs
    assert queue == sent.queue


@pytest.mark.parametrize(
    "changes", [{"exchange": "topics"}, {"routing_key": "other"}, {"properties": {"compression": "gzip"}}]
)
def test_what_needs_more_of_kombu_is_not_pushed(changes):
    from drumline.celery_hooks import ring

    channel = ring.Channel.__new__(ring.Channel)
    channel._expires = {"expiring": 1000}
    plain = {"body": "", "content_type": "", "content_encoding": "", "headers": {}, "properties": {}}
    plain |= {"exchange": "", "routing_key": "q", "queue": "q"}

    assert channel.takes(Message(**plain))
    assert not channel.takes(Message(**plain | changes))
    assert not channel.takes(Message(**plain | {"routing_key": "expiring", "queue": "expiring"}))
    # Before kombu 5.7 none did.
    del channel._expires
    assert channel.takes(Message(**plain))
