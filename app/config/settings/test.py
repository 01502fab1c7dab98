"""Unit tests: a database in memory, no broker, no socket. Integration tests start the production settings."""

from config import env

env.provide(
    ADMIN_SECOND_FACTOR="optional",
    # A port that nothing listens on: a unit test that reaches for the broker fails.
    CELERY_BROKER_URL="redis://127.0.0.1:1/0",
    CELERY_TASK_SOFT_TIME_LIMIT="1500",
    CELERY_TASK_TIME_LIMIT="1800",
    CELERY_VISIBILITY_TIMEOUT="7200",
    DATABASE_URL="sqlite:///:memory:",
    DEFAULT_FROM_EMAIL="Drumline <no-reply@test.example>",
    DJANGO_ALLOWED_HOSTS="testserver",
    DJANGO_SECRET_KEY="only for unit tests, worthless anywhere else, and long enough",  # noqa: S106
    DJANGO_TIME_ZONE="UTC",
    EMAIL_HOST="127.0.0.1",
    EMAIL_PORT="1",
    EMAIL_USE_TLS="false",
    LOG_LEVEL="INFO",
    SITE_URL="https://testserver",
)

import structlog  # noqa: E402

from config.settings.base import *  # noqa: E402, F403
from config.settings.base import REST_FRAMEWORK, STORAGES  # noqa: E402

structlog.configure(cache_logger_on_first_use=False)
EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
# A million rounds of hashing for every user would be most of the suite's time.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
STORAGES["staticfiles"] = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
REST_FRAMEWORK["DEFAULT_THROTTLE_RATES"] = dict.fromkeys(REST_FRAMEWORK["DEFAULT_THROTTLE_RATES"], "1000/min")
