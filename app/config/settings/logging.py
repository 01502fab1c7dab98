"""Logs: one JSON object a line, on standard error, for the journal to keep.

Tracebacks are plain text without local variables: those would show passwords.
"""

from typing import Any

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from config import env

LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
SECRET_WORDS = ("password", "secret", "token", "authorization", "cookie", "api_key")


def hide_secrets(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Blank every field whose name marks it as a secret, whoever logged it."""
    for key in event:
        if any(word in key.lower() for word in SECRET_WORDS):
            event[key] = "(hidden)"
    return event


COMMON: list[Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.stdlib.PositionalArgumentsFormatter(),
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.StackInfoRenderer(),
    hide_secrets,
]
JSON_LINES: list[Processor] = [
    structlog.processors.format_exc_info,
    structlog.processors.JSONRenderer(sort_keys=True, default=str),
]
READABLE_LINES: list[Processor] = [
    structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
]


def structured(level: str, *, lines: list[Processor] = JSON_LINES) -> dict[str, Any]:
    """Configure structlog and return the matching `logging` configuration."""
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *COMMON,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "lines": {
                "()": structlog.stdlib.ProcessorFormatter,
                "foreign_pre_chain": [structlog.stdlib.ExtraAdder(), *COMMON],
                "processors": [structlog.stdlib.ProcessorFormatter.remove_processors_meta, *lines],
            },
        },
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "lines"}},
        "root": {"handlers": ["stderr"], "level": level},
        "loggers": {
            # Django's own handlers would print a second, unstructured copy.
            "django": {"handlers": [], "propagate": True},
            # django_structlog says the same with request id, task id and duration.
            "django.request": {"level": "CRITICAL"},
            "django.server": {"handlers": [], "level": "WARNING", "propagate": True},
            # apps.users.lockout says the same, without what was typed.
            "axes": {"level": "ERROR"},
            "celery.app.trace": {"level": "WARNING"},
            "celery.worker.strategy": {"level": "WARNING"},
            # At INFO it logs the provider's error messages, and at DEBUG whole answers.
            "stripe": {"level": "WARNING"},
            # gunicorn installs a handler of its own unless it is taken away.
            "gunicorn.error": {"handlers": [], "propagate": True},
            # Its messages name every schedule entry, every time it looks.
            "django_celery_beat": {"level": "WARNING"},
        },
    }


def log_level() -> str:
    """Read the least severe level that is logged."""
    return env.choice("LOG_LEVEL", LOG_LEVELS, example="INFO")
