"""Durable Celery tasks for Django: every task is a row in your own database from `delay()` to its end."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from drumline.celery_hooks.bulk import send_many
    from drumline.ledger.operators import discard, requeue, status
    from drumline.sending.owners import owned

__all__ = ["discard", "owned", "requeue", "send_many", "status"]

# Resolved at the first use: Django imports this package before its models can be loaded.
_HOMES = {
    "discard": "drumline.ledger.operators",
    "owned": "drumline.sending.owners",
    "requeue": "drumline.ledger.operators",
    "send_many": "drumline.celery_hooks.bulk",
    "status": "drumline.ledger.operators",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
