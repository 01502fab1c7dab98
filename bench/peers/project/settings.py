"""The Django project that every peer runs in. What a peer keeps in its Django settings is below; the rest is in its adapter."""

import os

from kombu import Exchange, Queue

PEER = os.environ["BENCH_PEER"]
REDIS_URL = os.environ["REDIS_URL"]

SECRET_KEY = "worthless"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
# libpq reads host, port and user from the environment. A task's connection stays open for whoever lets it.
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": os.environ["PGDATABASE"],
        "CONN_MAX_AGE": None,
        "CONN_HEALTH_CHECKS": True,
    }
}
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes"]
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["console"], "level": "WARNING"},
}

if PEER in {"celery", "celery_tuned", "drumline"}:
    # The reference: what Celery's production checklists ask for, and what app/config/settings/celery.py sets.
    CELERY_BROKER_URL = REDIS_URL
    CELERY_BROKER_TRANSPORT_OPTIONS = {"visibility_timeout": 60, "socket_timeout": 10, "socket_keepalive": True}
    CELERY_BROKER_CONNECTION_MAX_RETRIES = None
    CELERY_TASK_QUEUES = [Queue(name, Exchange(name), routing_key=name) for name in ("high", "default", "low")]
    CELERY_TASK_CREATE_MISSING_QUEUES = False
    CELERY_TASK_DEFAULT_QUEUE = "default"
    CELERY_TASK_ACKS_LATE = True
    CELERY_TASK_SOFT_TIME_LIMIT, CELERY_TASK_TIME_LIMIT = 1500, 1800
    CELERY_WORKER_PREFETCH_MULTIPLIER = 1
    CELERY_WORKER_PROC_ALIVE_TIMEOUT = 30
    CELERY_WORKER_DISABLE_RATE_LIMITS = True
    CELERY_WORKER_HIJACK_ROOT_LOGGER = False
    CELERY_ACCEPT_CONTENT = ["json"]
if PEER == "celery":
    INSTALLED_APPS += ["django_celery_results"]
    CELERY_RESULT_BACKEND = "django-db"
    CELERY_RESULT_EXTENDED = True
    CELERY_TASK_TRACK_STARTED = True
if PEER in {"celery_tuned", "drumline"}:
    # Nobody reads the results, and a connection to the database serves a hundred tasks.
    CELERY_TASK_IGNORE_RESULT = True
    CELERY_DB_REUSE_MAX = 100
if PEER == "celery_tuned":
    # A child finds its next message waiting.
    CELERY_WORKER_PREFETCH_MULTIPLIER = 4
if PEER == "drumline":
    INSTALLED_APPS += ["drumline"]
    # Its commands look for it in the project's package, which there is none of here.
    DRUMLINE_CELERY_APP = "adapters.celery.app"

if PEER == "procrastinate":
    INSTALLED_APPS += ["procrastinate.contrib.django"]
    PROCRASTINATE_IMPORT_PATHS = ["adapters.procrastinate"]

QUEUES = ["high", "default", "low"]
if PEER == "django_ox":
    INSTALLED_APPS += ["django_tasks", "django_ox"]
    TASKS = {
        "default": {
            "BACKEND": "django_ox.backend.OxBackend",
            "QUEUES": QUEUES,
            # https://oxpull.com/django-ox/production/#tuning-lock_timeout: the longest silence of a living worker.
            "OPTIONS": {"LOCK_TIMEOUT": 60},
        }
    }
if PEER == "django_tasks_db":
    INSTALLED_APPS += ["django_tasks", "django_tasks_db"]
    TASKS = {"default": {"BACKEND": "django_tasks_db.DatabaseBackend", "QUEUES": QUEUES}}
