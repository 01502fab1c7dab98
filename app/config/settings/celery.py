"""Celery, by the production checklist. Django reads these names; Celery strips the prefix."""

from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

from django_celery_beat.tzcrontab import TzAwareCrontab
from kombu import Exchange, Queue

from config import env

with env.together():
    CELERY_BROKER_URL = env.url(
        "CELERY_BROKER_URL",
        ("redis", "rediss", "amqp", "amqps"),
        example="redis://app:password@127.0.0.1:6379/0",
        secret=True,
    )
    # Seconds after which Redis gives an unacknowledged message to another worker. It must exceed the longest time
    # limit and drain timeout; RabbitMQ's own `consumer_timeout` must, too.
    VISIBILITY_TIMEOUT = env.integer("CELERY_VISIBILITY_TIMEOUT", example="7200", at_least=1)
    # Seconds that a task may take at most: those of the queue with the longest tasks. A worker is started with its own
    # queue's, which are shorter.
    CELERY_TASK_SOFT_TIME_LIMIT = env.integer("CELERY_TASK_SOFT_TIME_LIMIT", example="1500", at_least=1)
    CELERY_TASK_TIME_LIMIT = env.integer("CELERY_TASK_TIME_LIMIT", example="1800", at_least=1)
    # The site's: of the schedule below, and of what people see.
    TIME_ZONE = env.time_zone("DJANGO_TIME_ZONE", example="UTC")

ON_RABBITMQ = CELERY_BROKER_URL.startswith("amqp")

# Messages: JSON only. Pickle would let whoever writes to the broker run code here.
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_EVENT_SERIALIZER = "json"
CELERY_RESULT_ACCEPT_CONTENT = ["json"]
CELERY_RESULT_SERIALIZER = "json"
CELERY_TASK_SERIALIZER = "json"
CELERY_ENABLE_UTC = True
CELERY_TIMEZONE = "UTC"

# Queues and routes. A misspelt queue fails at publish instead of filling a list that nobody reads.
# On RabbitMQ they are quorum queues: what it has confirmed survives the loss of a minority of its hosts.
CELERY_TASK_QUEUES = [
    Queue(
        name,
        Exchange(name),
        routing_key=name,
        queue_arguments={"x-queue-type": "quorum"} if ON_RABBITMQ else None,
    )
    for name in ("high", "default", "low")
]
CELERY_TASK_CREATE_MISSING_QUEUES = False
CELERY_TASK_DEFAULT_QUEUE = "default"
CELERY_TASK_DEFAULT_EXCHANGE = "default"
CELERY_TASK_DEFAULT_ROUTING_KEY = "default"
# What customers wait for and money on `high`, bulk on `low`. The first pattern that matches decides.
CELERY_TASK_ROUTES = {
    "notifications.send_weekly_digest*": {"queue": "low"},
    "notifications.*": {"queue": "high"},
    "orders.*": {"queue": "high"},
    "payments.*": {"queue": "high"},
    "api.*": {"queue": "low"},
    "drumline.*": {"queue": "default"},
    "integrations.*": {"queue": "default"},
    "products.*": {"queue": "default"},
    "users.cleanup_*": {"queue": "low"},
    "reports.*": {"queue": "low"},
    "warehouse.*": {"queue": "low"},
    "celery.*": {"queue": "low"},
    "debug_task": {"queue": "default"},
}

# Running a task: acknowledged when it ends, one at a time, never for ever.
CELERY_TASK_ACKS_LATE = True
# A task whose child process died is acknowledged as failed. Requeueing it has no bound: a task that kills its
# process would do so for ever.
CELERY_TASK_REJECT_ON_WORKER_LOST = False
CELERY_TASK_TRACK_STARTED = True
CELERY_TASK_ALWAYS_EAGER = False
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
# Leaks stay bounded; a low number costs half the throughput, this one nothing measurable.
CELERY_WORKER_MAX_TASKS_PER_CHILD = 1000
# A child imports Django; on a loaded host that takes longer than the default of 4 s, after which it is killed.
CELERY_WORKER_PROC_ALIVE_TIMEOUT = 30
CELERY_WORKER_DISABLE_RATE_LIMITS = True
# On Redis a late acknowledgement still arrives after a reconnect, so cancelling would only repeat work.
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = False
# Logging is configured by config/settings/logging.py alone.
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
# Flower shows tasks only from events. They halve the rate of tasks that do nothing, which real tasks do not
# notice; a fleet that lives on tiny tasks turns them off. The `sent` event costs the web process, so it is off.
CELERY_WORKER_SEND_TASK_EVENTS = True
CELERY_TASK_SEND_SENT_EVENT = False

# Results: only of tasks that say `ignore_result=False`, since storing one costs more than most tasks, and what became
# of a task is in the ledger anyway. They are kept for a day, with name and arguments so that a person can read them.
CELERY_TASK_IGNORE_RESULT = True
CELERY_RESULT_BACKEND = "django-db"
CELERY_RESULT_EXTENDED = True
CELERY_RESULT_EXPIRES = 24 * 3600

# One connection serves a hundred tasks. Never without CONN_HEALTH_CHECKS and the close_old_connections of
# drumline.worker.signals: after a database restart no task would succeed.
CELERY_DB_REUSE_MAX = 100

# The broker: notice a dead connection, try for ever in the worker, give up soon in the web process.
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
# A Redis with a full disk or at its maxmemory answers each write with an error. A worker would end on it, and what it
# runs with it. RabbitMQ's errors of this kind are a queue declared otherwise, which trying again does not mend.
CELERY_BROKER_CHANNEL_ERROR_RETRY = not ON_RABBITMQ
CELERY_BROKER_CONNECTION_TIMEOUT = 4
CELERY_BROKER_TRANSPORT_OPTIONS: dict[str, Any] = (
    {
        "client_properties": {"connection_name": "drumline"},
        # A publish is over when RabbitMQ has the message, not when the socket has taken it.
        "confirm_publish": True,
        "read_timeout": 10,
        "write_timeout": 10,
    }
    if ON_RABBITMQ
    else {
        "client_name": "drumline",
        # No retry_on_timeout: it makes redis-py reconnect inside a read that then waits for ever, and the worker with
        # it.
        "health_check_interval": 25,
        "socket_connect_timeout": 4,
        "socket_keepalive": True,
        # Without it a publish to a broker that went silent hangs for ever.
        "socket_timeout": 10,
        "visibility_timeout": VISIBILITY_TIMEOUT,
    }
)
# RabbitMQ 4.3 refuses a queue that is neither durable nor exclusive, which is Celery's default for those of remote control
# and of events; an exclusive one would refuse the next life of a worker until the former connection has ended. They
# expire by themselves, 10 and 60 s after their last use. On Redis there is nothing to be durable.
CELERY_CONTROL_QUEUE_DURABLE = ON_RABBITMQ
CELERY_EVENT_QUEUE_DURABLE = ON_RABBITMQ
CELERY_TASK_PUBLISH_RETRY = True
CELERY_TASK_PUBLISH_RETRY_POLICY = {"max_retries": 3, "interval_start": 0, "interval_step": 0.2, "interval_max": 0.5}

# The schedule lives in the database, where an operator adds to it; these entries belong to the code.
CELERY_BEAT_SCHEDULER = "drumline.beat.scheduler:Scheduler"
CELERY_BEAT_MAX_LOOP_INTERVAL = 5
# Their times are the site's wall clock; Celery's own `crontab` would take CELERY_TIMEZONE.
crontab = partial(TzAwareCrontab, tz=ZoneInfo(TIME_ZONE))
# What is done in the night, at its hour and minute.
NIGHTLY = {
    "users.cleanup_expired_sessions": (2, 0),
    "api.cleanup_request_counts": (2, 15),
    "users.cleanup_unverified": (2, 20),
    "users.cleanup_sign_ins": (2, 25),
    "warehouse.run_day": (2, 30),
    "reports.cleanup_old": (3, 0),
    "warehouse.cleanup_imports": (3, 30),
    "celery.backend_cleanup": (4, 0),
}
CELERY_BEAT_SCHEDULE: dict[str, dict[str, Any]] = {
    "notifications.send_weekly_digest": {
        "task": "notifications.send_weekly_digest",
        "schedule": crontab(minute="0", hour="8", day_of_week="mon"),
        "options": {"expire_seconds": 12 * 3600},
    },
    # What the supplier changed. Everything is read again by an entry that an operator may change; its first form is in
    # a migration of apps.products.
    "products.sync_inventory": {
        "task": "products.sync_inventory",
        "schedule": 60,
        # A run that is late would do what the next one does.
        "options": {"expire_seconds": 50, "missed": "skip"},
    },
    **{
        task: {
            "task": task,
            "schedule": crontab(minute=str(minute), hour=str(hour)),
            "options": {"expire_seconds": 12 * 3600},
        }
        for task, (hour, minute) in NIGHTLY.items()
    },
}
