"""kombu's Redis transports, in which a durable message rings and is not carried.

To redeliver what a dead worker had, kombu writes each message to Redis a second time as it is delivered, and removes it
when it is acknowledged. The ledger knows better which task is not done, so nothing is written for a durable task. Every
other message is kombu's: plain tasks, remote control, events.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any
from uuid import UUID

from kombu.transport import redis, virtual
from kombu.utils.json import dumps

from drumline.broker import reserved
from drumline.ledger import recovery
from drumline.message import PERSISTENT, Message, ledger_id
from drumline.worker import heartbeat

# Properties of a message that need nothing but to be sent along.
PLAIN = {"correlation_id", "reply_to", "priority"}
# Messages in one command, which holds up everything else in Redis.
TOGETHER = 500


class QoS(redis.QoS):
    """Counts the messages that a consumer has, and keeps all but the durable ones in Redis."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Durable messages that are not acknowledged, also after their connection is lost.
        self._durable: dict[str, UUID] = {}

    def append(self, message: Any, delivery_tag: str) -> None:
        """Count a message that is delivered."""
        task_id = _durable_task(message)
        if task_id is None:
            super().append(message, delivery_tag)
            return
        self._durable[delivery_tag] = task_id
        reserved.reserve(delivery_tag, task_id)
        virtual.QoS.append(self, message, delivery_tag)

    def ack(self, delivery_tag: str) -> None:
        """Count it no longer."""
        if delivery_tag in self._durable:
            self._acknowledge(delivery_tag)
        else:
            super().ack(delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:  # noqa: FBT001, FBT002  kombu's signature
        """Count it no longer, and put it back if it is to be delivered again."""
        if delivery_tag not in self._durable:
            super().reject(delivery_tag, requeue=requeue)
            return
        if requeue:
            self._put_back(delivery_tag)
        self._acknowledge(delivery_tag)

    def restore_unacked_once(self, stderr: Any = None) -> None:
        """Leave durable messages to the relay, as the channel closes; put the others back."""
        self._flush()  # type: ignore[attr-defined]  # incomplete stubs
        delivered: Any = self._delivered
        tags = [tag for tag in delivered if tag in self._durable]
        for tag in tags:
            # It stays known as durable: a task that runs on is acknowledged later, and not in Redis.
            del delivered[tag]
            reserved.acknowledge(tag)
        if tags:
            heartbeat.later(partial(recovery.messages_left, {self._durable[tag] for tag in tags}))
        super().restore_unacked_once(stderr)

    def _acknowledge(self, tag: str) -> None:
        del self._durable[tag]
        reserved.acknowledge(tag)
        virtual.QoS.ack(self, tag)

    def _put_back(self, tag: str) -> None:
        delivered: Any = self._delivered
        message = delivered.get(tag)
        # Without its connection it is not delivered any more, and its row was left to the relay.
        if message is None:
            return
        channel: Any = self.channel
        to = message.delivery_info
        raw, restore = message._raw, channel._do_restore_message  # noqa: SLF001  as kombu's own QoS does
        with channel.conn_or_acquire() as client:
            restore(raw, to["exchange"], to["routing_key"], client, leftmost=True)


def _durable_task(message: Any) -> UUID | None:
    headers = message.headers
    if not isinstance(headers, dict) or not headers.get("durable") or not headers.get("id"):
        return None
    return ledger_id(headers["id"])


class Pushing:
    """Publishes messages that need nothing of what kombu makes of a message: each of them goes to one queue by its name."""

    def takes(self: Any, message: Message) -> bool:
        """Return whether `push` publishes this message as kombu would."""
        return (
            not message.exchange
            and message.routing_key == message.queue
            and message.properties.keys() <= PLAIN
            # Since kombu 5.7 a queue may expire.
            and message.queue not in getattr(self, "_expires", ())
        )

    def push(self: Any, messages: Sequence[Message]) -> None:
        """Publish in order, in one round trip; raise the error of Redis' client if it does not take them all."""
        lists: dict[str, list[str]] = {}
        for message in messages:
            priority = self._get_message_priority({"properties": message.properties})
            key = self._q_for_pri(message.queue, priority)
            lists.setdefault(key, []).append(dumps(self._envelope(message)))
        pushes = [
            (key, *envelopes[start : start + TOGETHER])
            for key, envelopes in lists.items()
            for start in range(0, len(envelopes), TOGETHER)
        ]
        if len(pushes) == 1:
            self._pusher().lpush(*pushes[0])
            return
        with self._pusher().pipeline(transaction=False) as pipe:
            for push in pushes:
                pipe.lpush(*push)
            pipe.execute()

    def _pusher(self: Any) -> Any:
        """Return a client of the channel's pool. To make one takes longer than to publish, and kombu makes one each time."""
        client = self.__dict__.get("_pushing")
        if client is None or client.connection_pool is not self.pool:
            with self.conn_or_acquire() as client:
                self._pushing = client
        return client

    def _envelope(self: Any, message: Message) -> dict[str, Any]:
        """Return what kombu would make of a message."""
        body, body_encoding = self.encode_body(message.body, self.body_encoding)
        return {
            "body": body,
            "content-encoding": message.content_encoding,
            "content-type": message.content_type,
            "headers": message.published_headers(),
            "properties": {
                **message.properties,
                "delivery_mode": PERSISTENT,
                # As it was given; which list that leads to is another matter.
                "priority": message.properties.get("priority") or self.default_priority,
                "delivery_info": {"exchange": "", "routing_key": message.queue},
                "body_encoding": body_encoding,
                "delivery_tag": self._next_delivery_tag(),
            },
        }


class Channel(Pushing, redis.Channel):
    """See `QoS` and `Pushing`."""

    QoS = QoS


class SentinelChannel(Pushing, redis.SentinelChannel):
    """See `QoS` and `Pushing`."""

    QoS = QoS


class Transport(redis.Transport):
    """See `QoS`."""

    Channel = Channel


class SentinelTransport(redis.SentinelTransport):
    """See `QoS`."""

    Channel = SentinelChannel
