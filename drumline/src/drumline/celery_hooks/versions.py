"""Which versions the hooks were tested with, and each name that they use though it is not documented."""

from collections.abc import Iterator
from importlib.metadata import version

# The oldest and the newest minor version of which the package's own suite has passed (noxfile.py).
TESTED = {"celery": ((5, 4), (5, 7)), "kombu": ((5, 5), (5, 7)), "django": ((4, 2), (6, 1))}

# `module:name`, `module:Class.name` for what its class or its instances have, and the parameters where they are given by
# position. tests/test_private_names.py looks for each of them before anything else is tested.
NAMES = (
    "billiard.einfo:ExceptionInfo",
    "billiard.einfo:ExceptionWithTraceback",
    "billiard.exceptions:TimeLimitExceeded",
    "billiard.exceptions:WorkerLostError",
    "celery._state:_get_active_apps",
    "celery._state:default_app",
    "celery.app.amqp:Queues.aliases",
    "celery.app.amqp:Queues.consume_from",
    "celery.app.amqp:Queues.select",
    "celery.app.base:Celery._config_source",
    "celery.app.base:Celery.namespace",
    "celery.app.base:Celery.producer_or_acquire(self, producer)",
    "celery.app.base:Celery.producer_pool",
    "celery.app.base:Celery.send_task(self, name, args, kwargs, countdown, eta)",
    "celery.app.defaults:SETTING_KEYS",
    "celery.app.routes:MapRoute",
    "celery.app.routes:expand_router_string",
    "celery.app.task:Context",
    "celery.app.task:Task.Request",
    "celery.app.task:Task.__trace__",
    "celery.app.trace:TraceInfo(self, state, retval)",
    "celery.app.trace:TraceInfo.handle_error_state(self, task, req)",
    "celery.app.trace:trace_ok_t",
    "celery.bootsteps:RUN",
    "celery.concurrency.base:BasePool.num_processes",
    "celery.concurrency.base:BasePool.on_apply",
    "celery.concurrency:get_implementation",
    "celery.platforms:signals",
    "celery.utils.functional:maybe_evaluate",
    "celery.worker.consumer.consumer:Consumer.add_task_queue",
    "celery.worker.consumer.consumer:Consumer.connection",
    "celery.worker.consumer.consumer:Consumer.create_task_handler",
    "celery.worker.consumer.consumer:Consumer.initial_prefetch_count",
    "celery.worker.consumer.consumer:Consumer.on_connection_error_after_connected(self, exc)",
    "celery.worker.consumer.consumer:Consumer.on_decode_error(self, message, exc)",
    "celery.worker.consumer.consumer:Consumer.on_invalid_task(self, body, message, exc)",
    "celery.worker.consumer.consumer:Consumer.task_buckets",
    "celery.worker.consumer:Consumer",
    "celery.worker.request:Request._already_revoked",
    "celery.worker.request:Request._announce_revoked(self, reason, terminated, signum, expired)",
    "celery.worker.request:Request._connection_errors",
    "celery.worker.request:Request.acknowledge",
    "celery.worker.request:Request.on_failure(self, exc_info, send_failed_event, return_ok)",
    "celery.worker.request:Request.on_timeout(self, soft, timeout)",
    "celery.worker.request:Request.replaced_task_nesting",
    "celery.worker.request:Request.request_dict",
    "celery.worker.request:Request.time_limits",
    "celery.worker.state:active_requests",
    "celery.worker.state:reserved_requests",
    "celery.worker.state:task_ready",
    "celery.worker.state:total_count",
    "celery.worker:state",
    "django.db.backends.base.base:BaseDatabaseWrapper.in_atomic_block",
    "django.db.backends.base.base:BaseDatabaseWrapper.wrap_database_errors",
    "django_celery_beat.clockedschedule:clocked",
    "django_celery_beat.schedulers:DatabaseScheduler.Changes",
    "django_celery_beat.schedulers:DatabaseScheduler._last_timestamp",
    "django_celery_beat.schedulers:DatabaseScheduler._schedule",
    "django_celery_beat.schedulers:DatabaseScheduler.all_as_schedule",
    "django_celery_beat.schedulers:DatabaseScheduler.enabled_models_qs",
    "django_celery_beat.schedulers:DatabaseScheduler.schedule_changed",
    "django_celery_beat.schedulers:DatabaseScheduler.setup_schedule",
    "django_celery_beat.schedulers:ModelEntry._unpack_fields",
    "django_celery_beat.schedulers:ModelEntry.to_model_schedule",
    "django_celery_results.backends.database:DatabaseBackend.on_chord_part_return(self, request, state, result)",
    "django_celery_results.backends.database:trigger_callback(app, callback, group_result)",
    "kombu.pools:producers",
    "kombu.transport.redis:Channel.Message",
    "kombu.transport.redis:loads",
    "kombu.transport.virtual.base:Channel.Message",
    "kombu.transport:virtual",
    "kombu.utils.url:parse_url",
)


def untested() -> Iterator[str]:
    """Yield one line for each installed version that is older or newer than all that were tested."""
    for name, (oldest, newest) in TESTED.items():
        installed = version(name)
        if not oldest <= tuple(map(int, installed.split(".")[:2])) <= newest:
            ends = " to ".join(".".join(map(str, end)) for end in (oldest, newest))
            yield f"{name} {installed} was not tested with this version of Drumline, which was with {ends}"
