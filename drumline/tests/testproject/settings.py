"""The smallest project that `drumline_check` has nothing to say about: on SQLite, or on the server that PGHOST names."""

import os
from importlib.util import find_spec

from kombu import Exchange, Queue

SECRET_KEY = "only for tests"
USE_TZ = True
TIME_ZONE = "UTC"
ROOT_URLCONF = "testproject.urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {
    "default": (
        {"ENGINE": "django.db.backends.postgresql", "NAME": "testproject"}
        if "PGHOST" in os.environ
        else {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
    )
}
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django_celery_results",
    "drumline",
    "testproject",
]
# It lags behind Django: the newest one is tested without it.
if find_spec("django_celery_beat"):
    INSTALLED_APPS += ["django_celery_beat", "drumline.beat"]
    CELERY_BEAT_SCHEDULER = "drumline.beat.scheduler:Scheduler"
    CELERY_BEAT_SCHEDULE = {"users.cleanup_expired_sessions": {"task": "testproject.work", "schedule": 3600}}
# Django's tasks, by Django itself or by the backport; the tests of the ledger's backend name it themselves.
framework = next((name for name in ("django.tasks", "django_tasks") if find_spec(name)), None)
if framework:
    TASKS = {"default": {"BACKEND": f"{framework}.backends.dummy.DummyBackend"}}
if framework == "django_tasks":
    INSTALLED_APPS.append(framework)
MIDDLEWARE = [
    "drumline.web.request_id.RequestIdMiddleware",
    "drumline.health.middleware.HealthMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

# A port that nothing listens on: a test that reaches for the broker fails.
CELERY_BROKER_URL = "redis://127.0.0.1:1/0"
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
CELERY_BROKER_TRANSPORT_OPTIONS = {"visibility_timeout": 7200, "socket_timeout": 10}
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_RESULT_BACKEND = "django-db"
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_CREATE_MISSING_QUEUES = False
CELERY_TASK_DEFAULT_QUEUE = "default"
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_QUEUES = [Queue(name, Exchange(name), routing_key=name) for name in ("high", "default", "low")]
CELERY_TASK_SOFT_TIME_LIMIT = 1500
CELERY_TASK_TIME_LIMIT = 1800
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_TASK_ROUTES = {"notifications.*": {"queue": "high"}, "reports.*": {"queue": "low"}}
