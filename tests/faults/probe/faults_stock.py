"""The same Celery settings without Drumline: what acks_late, prefetch 1 and a short visibility timeout give alone."""

from faults_settings import *  # noqa: F403

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django_celery_beat",
    "django_celery_results",
    "django_structlog",
    "faultprobe",
    "config.apps.ProjectConfig",
]
AUTH_USER_MODEL = "auth.User"
MIDDLEWARE = []
CELERY_BEAT_SCHEDULER = "django_celery_beat.schedulers:DatabaseScheduler"
