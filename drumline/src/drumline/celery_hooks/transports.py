"""The transports by which kombu reaches Redis; see `ring`, which is imported when one is used."""

from typing import Any

from kombu import transport

REDIS = {
    "kombu.transport.redis:Transport": "drumline.celery_hooks.ring:Transport",
    "kombu.transport.redis:SentinelTransport": "drumline.celery_hooks.ring:SentinelTransport",
}


def install() -> None:
    """Have the URLs `redis://`, `rediss://` and `sentinel://` lead to this package's transports.

    A project that names another one (`broker_transport`, an alias of its own) keeps it.
    """
    for alias, theirs in list(transport.TRANSPORT_ALIASES.items()):
        if theirs in REDIS:
            transport.TRANSPORT_ALIASES[alias] = REDIS[theirs]
            # A connection that was made before has looked it up.
            cache: Any = vars(transport)["_transport_cache"]
            cache.pop(alias, None)
