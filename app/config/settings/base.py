"""Settings that are complete and safe by themselves; the other modules only tighten or, for development, relax."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import dj_database_url

from config import env
from config.settings.logging import log_level, structured

# Resolved: a process keeps the files of the release it was started from when the link moves on.
BASE_DIR = Path(__file__).resolve().parents[2]

with env.together():
    # Inside the block, so that what is wrong with Celery's variables is reported with the rest.
    from config.settings.celery import *  # noqa: F403

    SECRET_KEY = env.string(
        "DJANGO_SECRET_KEY", example="fifty or more random characters, " * 2, secret=True, at_least=50
    )
    ALLOWED_HOSTS = env.words("DJANGO_ALLOWED_HOSTS", example="drumline.example.com,localhost")
    # Whether staff without a device for one-time codes gets into the administration.
    ADMIN_SECOND_FACTOR = env.choice("ADMIN_SECOND_FACTOR", ("optional", "required"), example="required")
    # What links in e-mails begin with.
    SITE_URL = env.url("SITE_URL", ("https", "http"), example="https://drumline.example.com").rstrip("/")
    DATABASE_URL = env.url(
        "DATABASE_URL",
        ("postgres", "postgresql", "sqlite"),
        example="postgresql://drumline:password@127.0.0.1:5432/drumline",
        secret=True,
    )
    EMAIL_HOST = env.string("EMAIL_HOST", example="smtp.example.com")
    EMAIL_PORT = env.integer("EMAIL_PORT", example="587", at_least=1, at_most=65535)
    EMAIL_USE_TLS = env.boolean("EMAIL_USE_TLS", example="true")
    DEFAULT_FROM_EMAIL = env.string("DEFAULT_FROM_EMAIL", example="Drumline <no-reply@example.com>")
    LOG_LEVEL = log_level()
    EMAIL_HOST_USER = env.optional_string("EMAIL_HOST_USER", example="drumline")
    EMAIL_HOST_PASSWORD = env.optional_string("EMAIL_HOST_PASSWORD", example="password", secret=True)
    # Without it nobody is copied to a CRM.
    CRM_URL = env.optional_string("CRM_URL", example="https://crm.example.com/api/")
    CRM_TOKEN = env.optional_string("CRM_TOKEN", example="token", secret=True)
    # Without it no stock is copied.
    SUPPLIER_URL = env.optional_string("SUPPLIER_URL", example="https://supplier.example.com/api/")
    # Without a key no card can be charged. The URL is that of Stripe itself unless it says another.
    STRIPE_API_KEY = env.optional_string("STRIPE_API_KEY", example="sk_live_key", secret=True)
    STRIPE_URL = env.optional_string("STRIPE_URL", example="https://api.stripe.com")
    # Without it errors are only logged.
    SENTRY_DSN = env.optional_string("SENTRY_DSN", example="https://key@sentry.example.com/1", secret=True)

DEBUG = False
LOGGING = structured(LOG_LEVEL)

INSTALLED_APPS = [
    "config.apps.StaffAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "axes",
    "django_celery_beat",
    "django_celery_results",
    "django_otp",
    "django_otp.plugins.otp_static",
    "django_otp.plugins.otp_totp",
    "django_structlog",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "drumline",
    "drumline.beat",
    "apps.api",
    "apps.users",
    "apps.notifications",
    "apps.crm",
    "apps.products",
    "apps.orders",
    "apps.payments",
    "apps.reports",
    "apps.warehouse",
    "config.apps.ProjectConfig",
]

MIDDLEWARE = [
    "drumline.web.request_id.RequestIdMiddleware",
    # Before everything that needs the database: a health answer must not fail with what it reports on.
    "drumline.health.middleware.HealthMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "apps.api.middleware.NoStoreMiddleware",
    "apps.api.middleware.BodyLimitMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django_otp.middleware.OTPMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_structlog.middlewares.RequestMiddleware",
    "axes.middleware.AxesMiddleware",
]

ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
AUTH_USER_MODEL = "users.User"
LOGIN_URL = "admin:login"
USE_TZ = True
LANGUAGE_CODE = "en"
USE_I18N = False

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "config" / "templates"],
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

# The health check lets a connection that outlived a database restart be replaced instead of failing a request.
DATABASES: dict[str, Any] = {
    "default": dj_database_url.parse(DATABASE_URL, conn_max_age=600, conn_health_checks=True),
}
# DATABASE_URL ends with `?pgbouncer=true` where PgBouncer pools transactions. Rows are then read as a whole instead of
# through a cursor of the server, which the next transaction's session would not have.
DRUMLINE_PGBOUNCER = env.flag_of_url("DATABASE_URL", DATABASES["default"].setdefault("OPTIONS", {}), "pgbouncer")
DATABASES["default"]["DISABLE_SERVER_SIDE_CURSORS"] = DRUMLINE_PGBOUNCER
if DATABASES["default"]["ENGINE"] == "django.db.backends.postgresql":
    DATABASES["default"].setdefault("OPTIONS", {}).update(
        application_name="drumline",
        connect_timeout=5,
        # A peer that vanished without closing is noticed in half a minute, not in hours.
        keepalives_idle=10,
        keepalives_interval=5,
        keepalives_count=3,
        tcp_user_timeout=30_000,
    )
else:
    DATABASES["default"].setdefault("OPTIONS", {}).update(
        # A writer waits for the other one instead of failing in the middle of its transaction.
        transaction_mode="IMMEDIATE",
        timeout=20,
        init_command="PRAGMA journal_mode=WAL;",
    )

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]

AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "django.contrib.auth.backends.ModelBackend"]
# After so many failed sign-ins none is tried for so long; apps.users.lockout says whose are counted together.
AXES_HANDLER = "apps.users.lockout.Handler"
AXES_FAILURE_LIMIT = 5
AXES_COOLOFF_TIME = timedelta(minutes=15)
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"], "username"]
AXES_RESET_ON_SUCCESS = True
AXES_USERNAME_FORM_FIELD = "username"
AXES_USERNAME_CALLABLE = "apps.users.lockout.account"
AXES_CLIENT_IP_CALLABLE = "apps.users.lockout.client_address"
AXES_LOCKOUT_CALLABLE = "apps.users.lockout.response"
AXES_SENSITIVE_PARAMETERS = ["username", "otp_token", "csrfmiddlewaretoken"]
OTP_TOTP_ISSUER = "Drumline"
# A device's secret is shown once, by the command second_factor.
OTP_ADMIN_HIDE_SENSITIVE_DATA = True

STATIC_URL = "/static/"
STATIC_ROOT = BASE_DIR / "static"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"},
}

# Of each process by itself: nothing that processes must agree on belongs here.
CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "drumline"}}

EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
# A mail server that went silent must not hold a worker for longer.
EMAIL_TIMEOUT = 10
SERVER_EMAIL = DEFAULT_FROM_EMAIL

SESSION_COOKIE_SECURE = True
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_SECURE = True
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
DATA_UPLOAD_MAX_MEMORY_SIZE = 1_000_000
# Where a body may be larger, since it is never in memory as a whole. nginx has limits of its own (app_large_bodies_kb).
API_BODY_LIMITS = {"/api/imports/": 100_000_000}
# Bytes of the files that one account may have in the warehouse, and all accounts together; and what must stay free on the
# disk of the host that answers, where an upload is kept until it is whole.
IMPORTS_QUOTA = 2_000_000_000
IMPORTS_CEILING = 20_000_000_000
IMPORTS_DISK_RESERVE = 2_000_000_000

REST_FRAMEWORK: dict[str, Any] = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["rest_framework.authentication.SessionAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_PARSER_CLASSES": ["apps.api.parsers.JSONParser"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "DEFAULT_THROTTLE_CLASSES": ["apps.api.throttling.Throttle"],
    # A page that shows progress asks every second or two.
    "DEFAULT_THROTTLE_RATES": {
        "users.create": "60/min",
        "users.verify": "60/min",
        "session": "60/min",
        "orders.create": "30/min",
        "orders.pay": "10/min",
        "orders.read": "120/min",
        "orders.ship": "120/min",
        "reminders": "120/min",
        "reminders.create": "100/day",
        "reports.request": "10/min",
        "reports.read": "240/min",
        "tasks.read": "240/min",
        "imports.create": "30/hour",
        "imports.read": "240/min",
    },
    "EXCEPTION_HANDLER": "apps.api.problems.exception_handler",
    # Only nginx's own entry in X-Forwarded-For is believed; a client can write the others itself.
    "NUM_PROXIES": 1,
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Drumline",
    "DESCRIPTION": "Errors are problem documents (RFC 9457).",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    # A state that several components have needs a name of its own.
    "ENUM_NAME_OVERRIDES": {"ImportStateEnum": "apps.warehouse.models.CsvImport.State"},
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    # Served from this host: the page works without the internet and tells nobody who reads it.
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
}

# nginx sets X-Request-ID; RequestIdMiddleware drops what does not look like one.
DJANGO_STRUCTLOG_TRUST_UPSTREAM_REQUEST_ID = True
# One line a request, when it ends.
DJANGO_STRUCTLOG_STATUS_START_LOG_LEVEL = 10
# An address is personal data, and nginx's access log has it.
DJANGO_STRUCTLOG_IP_LOGGING_ENABLED = False
