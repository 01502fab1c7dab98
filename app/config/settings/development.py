"""A developer's machine: SQLite, readable logs, no TLS, and a value for every variable."""

from pathlib import Path

from config import env

env.provide(
    ADMIN_SECOND_FACTOR="optional",
    CELERY_BROKER_URL="redis://127.0.0.1:6379/0",
    CELERY_TASK_SOFT_TIME_LIMIT="1500",
    CELERY_TASK_TIME_LIMIT="1800",
    CELERY_VISIBILITY_TIMEOUT="7200",
    DATABASE_URL=f"sqlite:///{Path(__file__).resolve().parents[2] / 'development.sqlite3'}",
    DEFAULT_FROM_EMAIL="Drumline <no-reply@localhost>",
    DJANGO_ALLOWED_HOSTS="localhost,127.0.0.1,[::1]",
    DJANGO_SECRET_KEY="only for development, worthless anywhere else, and long enough",  # noqa: S106
    DJANGO_TIME_ZONE="UTC",
    EMAIL_HOST="127.0.0.1",
    EMAIL_PORT="1025",
    EMAIL_USE_TLS="false",
    FLOWER_URL="http://127.0.0.1:5555/flower/",
    LOG_LEVEL="INFO",
    SITE_URL="http://127.0.0.1:8000",
)

from config.settings.base import *  # noqa: E402, F403
from config.settings.base import LOG_LEVEL, STORAGES  # noqa: E402
from config.settings.logging import READABLE_LINES, structured  # noqa: E402

DEBUG = True
ROOT_URLCONF = "config.urls_development"
FLOWER_URL = env.string("FLOWER_URL", example="http://127.0.0.1:5555/flower/")
LOGGING = structured(LOG_LEVEL, lines=READABLE_LINES)
SESSION_COOKIE_SECURE = False
CSRF_COOKIE_SECURE = False
# The manifest exists only after collectstatic.
STORAGES["staticfiles"] = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
