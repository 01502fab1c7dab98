"""Reports to Sentry: every task that failed, every request that did, and what ends a process.

Without SENTRY_DSN nothing of this is loaded. With it, an event is handed to a thread, which drops what it cannot send in
time: a Sentry that is slow or away holds up neither a task nor a request, and a process that ends for a second at most.

The SDK's own integration for Celery is not used. It sees what a task raises, and neither the task whose process died,
nor the one that ran out of time, nor the one that no worker knows; of arguments it sends all or none; and it wraps
every message that is published. Celery's `task_failure` tells of each failure, in whatever process learns of it.
"""

import inspect
import sys
from collections.abc import Sequence
from typing import Any

import sentry_sdk
from celery import Task, signals
from django.conf import settings
from django.core.signals import got_request_exception
from django.http import HttpRequest
from sentry_sdk.integrations.atexit import AtexitIntegration
from sentry_sdk.integrations.excepthook import ExcepthookIntegration
from sentry_sdk.transport import HttpTransport
from sentry_sdk.utils import BadDsn
from structlog.contextvars import get_contextvars

from config import env
from config.scrubbing import scrub

# Seconds that a process waits for its last events when it ends.
GOODBYE = 1.0


class Transport(HttpTransport):
    """Gives an event up sooner; it is the seconds for one attempt."""

    TIMEOUT = 5


def start() -> None:
    """Report from this process, and from those that it forks."""
    _init()
    # A fork inherits the queue, maybe locked, and not the thread that empties it.
    signals.worker_process_init.connect(_init)
    signals.worker_process_shutdown.connect(_say_goodbye)
    signals.task_failure.connect(report_task)
    got_request_exception.connect(report_request)


def _init(**_: Any) -> None:
    try:
        sentry_sdk.init(
            dsn=settings.SENTRY_DSN,
            transport=Transport,
            shutdown_timeout=GOODBYE,
            release=settings.BASE_DIR.name,
            before_send=lambda event, _hint: scrub(event),
            include_local_variables=False,
            # Characters of a text that are kept; the longer, the longer it takes to look through it.
            max_value_length=4096,
            max_breadcrumbs=0,
            # Only what reports by itself: the others wrap queries, requests and log lines.
            default_integrations=False,
            auto_enabling_integrations=False,
            integrations=[ExcepthookIntegration(), AtexitIntegration(callback=lambda *_: None)],
            auto_session_tracking=False,
            enable_backpressure_handling=False,
            send_client_reports=False,
        )
    except BadDsn:
        env.fail("SENTRY_DSN is not the DSN of a Sentry project (example: https://key@sentry.example.com/1)")


def _say_goodbye(**_: Any) -> None:
    # A pool's process ends without what is registered for the exit.
    sentry_sdk.flush(timeout=GOODBYE)


def report_task(
    sender: "Task[..., Any] | None",
    task_id: str,
    exception: Exception,
    args: Sequence[Any],
    kwargs: dict[str, Any],
    **_: Any,
) -> None:
    """Report a task that failed for good, with its arguments by name."""
    # Without a sender nobody knows the task, and the error is its name.
    name = sender.name if sender is not None else str(exception.args[0])
    with sentry_sdk.new_scope() as scope:
        scope.set_transaction_name(name)
        scope.set_tags({"task": name, "task_id": task_id, **_correlation()})
        scope.set_extra("arguments", _named(sender, args, kwargs))
        # The death of a process, or the end of its time, looks the same for every task.
        scope.fingerprint = ["{{ default }}", name]
        sentry_sdk.capture_exception(exception)


def report_request(request: HttpRequest, **_: Any) -> None:
    """Report a request that ended in an unexpected error; what it asked for is in the log."""
    route = request.resolver_match.route if request.resolver_match else request.path
    with sentry_sdk.new_scope() as scope:
        scope.set_transaction_name(f"{request.method} /{route.lstrip('/')}")
        scope.set_tags(_correlation())
        sentry_sdk.capture_exception(sys.exception())


def _correlation() -> dict[str, str]:
    request_id = get_contextvars().get("request_id")
    return {"request_id": str(request_id)} if request_id else {}


def _named(task: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments by the names that the task gives them: by its name a secret is known."""
    try:
        return dict(inspect.signature(task.run).bind(*args, **kwargs).arguments)
    except (AttributeError, TypeError):
        return {"args": args, "kwargs": kwargs}
