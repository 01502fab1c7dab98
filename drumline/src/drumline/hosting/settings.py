"""The project's settings, and what a deploy adds to them: DJANGO_SETTINGS_MODULE=drumline.hosting.settings.

Django reads a settings module by `dir` and `getattr`, which are computed here at the first look: importing this module changes
nothing.
"""

from functools import cache
from importlib.util import find_spec
from typing import Any

from drumline.hosting import project

HEALTH = "drumline.health.middleware.HealthMiddleware"
STAFF = "drumline.hosting.middleware.StaffMiddleware"


@cache
def _hosted() -> dict[str, Any]:
    own = project.settings()
    values = {name: getattr(own, name) for name in dir(own) if name.isupper()}
    values |= project.overrides()
    # A project may write either.
    apps, middleware = list(values.get("INSTALLED_APPS", ())), list(values.get("MIDDLEWARE", ()))
    if project.has_ledger():
        _add_ledger(apps, middleware)
        values["DATABASES"] = {alias: _checked(database) for alias, database in values.get("DATABASES", {}).items()}
    if path := project.celery_path():
        values.setdefault("DRUMLINE_CELERY_APP", path)
    values["STATIC_ROOT"] = values.get("STATIC_ROOT") or str(project.static_root())
    # nginx always sets this header, and is the only one that reaches the socket: without it each form would be refused as one
    # from another site.
    values["SECURE_PROXY_SSL_HEADER"] = values.get("SECURE_PROXY_SSL_HEADER") or ("HTTP_X_FORWARDED_PROTO", "https")
    if project.staff_path() and STAFF not in middleware:
        # Behind everything that says who signed in.
        middleware.append(STAFF)
    return values | {"INSTALLED_APPS": apps, "MIDDLEWARE": middleware}


def _add_ledger(apps: list[str], middleware: list[str]) -> None:
    """Add what the project has not added by itself."""
    named = project.application_names(apps)
    wanted = ["drumline"]
    if find_spec("django_celery_beat") is not None:
        wanted += ["django_celery_beat", "drumline.beat"]
    # The last, since it asks for the Celery application, and that one for everything else.
    apps += [name for name in [*wanted, "drumline.hosting"] if name not in named]
    if HEALTH not in middleware:
        # Before everything that needs the database.
        middleware.insert(0, HEALTH)


def _checked(database: dict[str, Any]) -> dict[str, Any]:
    """A connection that is kept is checked before it is used: a restart of the database would fail tasks."""
    return database | {"CONN_HEALTH_CHECKS": True} if database.get("CONN_MAX_AGE", 0) != 0 else database


class Configured:
    """What django-configurations asks this module for, whose settings the project's own class has set already."""

    @staticmethod
    def pre_setup() -> None:
        """Do nothing."""

    setup = post_setup = pre_setup


def __dir__() -> list[str]:
    return sorted(_hosted())


def __getattr__(name: str) -> Any:
    if name == project.configuration():
        return Configured
    if not name.isupper() or name not in _hosted():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _hosted()[name]
