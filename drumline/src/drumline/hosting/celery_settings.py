"""Celery's settings as the ledger needs them, in place of those with which a project would lose or double tasks."""

import os
from collections.abc import Mapping
from typing import Any

from celery import Celery
from django.apps import apps
from kombu import Exchange, Queue

from drumline.broker import connections
from drumline.hosting import project
from drumline.preflight.celery_settings import NAMING, SCHEDULER, WRONG, visibility_timeout

# Instead of what `drumline_check` calls wrong. What is the project's own choice, such as an unsafe format, is not here.
RIGHT: dict[str, Any] = {
    "task_acks_late": True,
    "task_always_eager": False,
    "worker_prefetch_multiplier": 1,
    "broker_connection_max_retries": None,
    "broker_connection_retry": True,
    "task_acks_on_failure_or_timeout": True,
    "task_reject_on_worker_lost": False,
    "worker_cancel_long_running_tasks_on_connection_loss": False,
    "result_expires": 24 * 3600,
    "task_protocol": 2,
    "enable_utc": True,
}
# Of Redis: a send to a broker that went silent ends, and a dead connection is noticed.
REDIS = {"socket_timeout": 10, "socket_connect_timeout": 4, "socket_keepalive": True, "health_check_interval": 25}


def make_safe(app: Celery) -> None:
    """Set what the project left unsafe, or set so."""
    conf: Any = app.conf
    for setting, is_wrong, _ in WRONG:
        if setting in RIGHT and is_wrong(conf[setting]):
            _set(app, setting, value=RIGHT[setting])
    for setting, variable in (
        ("task_soft_time_limit", "CELERY_TASK_SOFT_TIME_LIMIT"),
        ("task_time_limit", "CELERY_TASK_TIME_LIMIT"),
    ):
        if not conf[setting] and os.environ.get(variable):
            _set(app, setting, value=int(os.environ[variable]))
    if visibility_timeout(app):
        connections.complete(app, _redis_options)
    _declare_queues(app)
    if apps.is_installed("drumline.beat"):
        _set(app, "beat_scheduler", value=SCHEDULER)


def _set(app: Celery, setting: str, *, value: Any) -> None:
    """Set by the name that is looked up first: with a namespace, the one that the project's settings have."""
    namespace = getattr(app, "namespace", None) or ""
    name = f"{namespace}_{setting}" if namespace else setting
    app.conf[name.upper() if namespace.isupper() else name] = value


def _redis_options(own: dict[str, Any]) -> dict[str, Any]:
    options = {name: value for name, value in {**REDIS, **own}.items() if name not in NAMING}
    # It makes redis-py reconnect inside a read that then waits for ever.
    options.pop("retry_on_timeout", None)
    least = int(os.environ.get("CELERY_VISIBILITY_TIMEOUT") or 3600)
    options["visibility_timeout"] = max(int(own.get("visibility_timeout") or 0), least)
    return options


def _declare_queues(app: Celery) -> None:
    """Declare the queues that are served, so that a task for another one is refused where it is sent."""
    if not project.queues():
        return
    # The project's own stay as they are.
    own: Any = app.conf.task_queues or []
    declared = own if isinstance(own, Mapping) else {queue.name: queue for queue in own}
    served = {name: Queue(name, Exchange(name), routing_key=name) for name in project.queues()}
    added = {name: queue for name, queue in served.items() if name not in declared}
    if added:
        _set(app, "task_queues", value={**own, **added} if isinstance(own, Mapping) else [*own, *added.values()])
    _set(app, "task_create_missing_queues", value=False)
