"""The project that is hosted, by the variables in which a deploy names its parts."""

import json
import os
import sys
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from celery import Celery
from django.core.exceptions import ImproperlyConfigured

SETTINGS_MODULE = "HOSTED_SETTINGS_MODULE"
CONFIGURATION = "DJANGO_CONFIGURATION"
CELERY = "HOSTED_CELERY"
OVERRIDES = "HOSTED_SETTINGS"
LEDGER = "HOSTED_LEDGER"
QUEUES = "HOSTED_QUEUES"
STAFF_PATH = "HOSTED_STAFF_PATH"
STATIC_ROOT = "HOSTED_STATIC_ROOT"


def settings_module() -> str:
    """Return the name of the project's own settings module."""
    name = os.environ.get(SETTINGS_MODULE, "")
    if not name:
        raise ImproperlyConfigured(
            f"{SETTINGS_MODULE} is not set: drumline.hosting.settings adds to the project's own settings, and needs their name."
        )
    return name


def configuration() -> str:
    """Return the class that holds the settings of a project with django-configurations; empty for another one."""
    return os.environ.get(CONFIGURATION, "")


def settings() -> ModuleType:
    """Import the project's own settings module."""
    name = settings_module()
    if not configuration():
        return import_module(name)
    # It fills a module from its class when that one is imported which Django's variable names.
    import_module("configurations.importer").install()
    hosted = os.environ["DJANGO_SETTINGS_MODULE"]
    os.environ["DJANGO_SETTINGS_MODULE"] = name
    try:
        return import_module(name)
    finally:
        os.environ["DJANGO_SETTINGS_MODULE"] = hosted


def overrides() -> dict[str, Any]:
    """Return the settings that a deploy sets to a literal value (`app_settings`)."""
    values: dict[str, Any] = json.loads(os.environ.get(OVERRIDES) or "{}")
    return values


def has_ledger() -> bool:
    """Return whether a deploy adds the ledger to the project's settings (`app_ledger: true`)."""
    return os.environ.get(LEDGER) == "true"


def queues() -> list[str]:
    """Return the names of the queues that workers serve (`app_queues`)."""
    return [name for name in os.environ.get(QUEUES, "").split(",") if name]


def staff_path() -> str:
    """Return the path at which staff are told from others (`app_staff_path`); empty when the project answers it itself."""
    return os.environ.get(STAFF_PATH, "")


def static_root() -> Path:
    """Return the folder of the release from which nginx serves static files (`app_static_root`)."""
    return Path.cwd() / (os.environ.get(STATIC_ROOT) or "static")


def application_names(entries: Iterable[str]) -> set[str]:
    """Return the names of applications in INSTALLED_APPS, where an entry may name the class of its configuration."""
    return {entry.partition(".apps.")[0] for entry in entries}


def celery_path() -> str:
    """Return the dotted path of the project's Celery application; empty when a deploy names none."""
    module, _, name = os.environ.get(CELERY, "").partition(":")
    return f"{module}.{name or 'app'}" if module else ""


def celery_application() -> Celery:
    """Import the project's Celery application; end the process with a sentence when there is none."""
    if str(Path.cwd()) not in sys.path:
        # A console script has its own folder there.
        sys.path.insert(0, str(Path.cwd()))
    module, _, name = celery_path().rpartition(".")
    if not module:
        raise SystemExit(
            f"{CELERY} is not set. It names the project's Celery application, as module:variable (app_celery)."
        )
    try:
        found = getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise SystemExit(
            f"app_celery is {module}:{name}, but there is no module {error.name} in {Path.cwd()}."
        ) from None
    except AttributeError:
        raise SystemExit(f"app_celery is {module}:{name}, but the module {module} has no {name}.") from None
    if not isinstance(found, Celery):
        raise SystemExit(f"app_celery is {module}:{name}, which is a {type(found).__name__}, not a Celery application.")
    return found
