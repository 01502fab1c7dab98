"""How much the broker holds of a queue."""

from collections.abc import Iterable, Iterator

from amqp.exceptions import ChannelError

from drumline import conf
from drumline.application import application
from drumline.logs import get_logger

logger = get_logger(__name__)


def queue_depths(queues: Iterable[str]) -> dict[str, int]:
    """Return how many messages wait in each queue; raise the transport's error when the broker does not answer."""
    seconds = conf.publish_timeout()
    options = {
        **application().conf.broker_transport_options,
        "socket_timeout": seconds,
        "socket_connect_timeout": seconds,
        "connect_retries_timeout": seconds,
        "max_retries": 1,
        "interval_start": 0,
    }
    with application().connection_for_read(connect_timeout=seconds, transport_options=options) as connection:
        return {queue: _depth(connection, queue) for queue in queues}


def empty_queues(queues: Iterable[str]) -> Iterator[str]:
    """Yield the queues of which the broker holds nothing; none when it cannot be asked."""
    queues = list(queues)
    try:
        depths = queue_depths(queues) if queues else {}
    except Exception as error:  # noqa: BLE001  every transport has its own, and none of them says that a queue is empty
        logger.warning("relay_broker_silent", error=f"{type(error).__name__}: {error}")
        return
    yield from (queue for queue, depth in depths.items() if not depth)


def _depth(connection: object, queue: str) -> int:
    # A channel for each question: a queue that is not there closes the channel.
    with connection.channel() as channel:  # type: ignore[attr-defined]
        try:
            return int(channel.queue_declare(queue, passive=True).message_count)
        except ChannelError:
            return 0
