"""The Celery application: `celery -A config worker`."""

import logging.config
from typing import Any

import structlog
from celery import Celery, Task, signals
from django.conf import settings
from django.dispatch import receiver
from django_structlog.celery.receivers import CeleryReceiver
from django_structlog.celery.signals import bind_extra_task_metadata, modify_context_before_task_publish
from structlog.contextvars import bind_contextvars

from config import env

logger = structlog.get_logger(__name__)

env.settings_module()

app = Celery("drumline")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()

# What a message carries from the request that sent it. Everything else about the request stays in its process.
CARRIED = ("request_id", "user_id", "parent_task_id")

# One receiver in every process; the library's own switches would connect two in a worker and log twice.
log_receiver = CeleryReceiver()
log_receiver.connect_worker_signals()


@app.task(name="debug_task", bind=True, ignore_result=True)
def debug_task(self: "Task[..., None]", *_args: Any, **_kwargs: Any) -> None:
    """Print what reached the worker into its log, whatever it was called with.

    It is durable as any other, so that what it shows is what every task meets, and `enqueue --wait` follows it.
    """
    logger.info("Request: %r", self.request)


@signals.setup_logging.connect
def use_django_logging(**_: Any) -> None:
    """Keep Celery from installing handlers of its own."""
    logging.config.dictConfig(settings.LOGGING)


@receiver(modify_context_before_task_publish)
def carry_only_what_correlates(context: dict[str, Any], **_: Any) -> None:
    """Reduce what travels with a message to what ties the log lines together."""
    kept = {key: context[key] for key in CARRIED if context.get(key) is not None}
    context.clear()
    context.update(kept)


@receiver(bind_extra_task_metadata)
def name_the_task(task: "Task[..., Any]", **_: Any) -> None:
    """Put the task's name and queue on every log line that it writes."""
    bind_contextvars(task=task.name, queue=(task.request.delivery_info or {}).get("routing_key"))
