"""Celery's applications, of which it has no public list."""

from typing import Any

from celery import Celery, _state
from django.conf import settings


def configured_with_django() -> Celery | None:
    """Return the application that is configured with the Django settings; None until there is one."""
    # Typed as incomplete as it is documented.
    state: Any = _state
    apps = [
        app
        for app in state._get_active_apps()  # noqa: SLF001  Celery has no public list
        if app._config_source == "django.conf:settings" or app._config_source is settings  # noqa: SLF001
    ]
    # Celery's Django integration makes the first one the default of every thread.
    return state.default_app if state.default_app in apps else next(iter(apps), None)
