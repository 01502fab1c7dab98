"""Which Celery application the ledger serves, and whether a message goes to that application's broker."""

from collections.abc import Callable, Iterator
from typing import Any

from celery import Celery
from celery.app import app_or_default
from django.utils.module_loading import import_string
from kombu import Connection
from kombu.utils.url import parse_url

from drumline import conf
from drumline.logs import get_logger

logger = get_logger(__name__)

_application: Celery | None = None
_find: Callable[[], Celery | None] | None = None
_imported: set[int] = set()
_foreign: set[str] = set()


def application() -> Celery:
    """Return the Celery application whose tasks the ledger keeps.

    It is `DRUMLINE_CELERY_APP` ("config.celery.app"), or else the application that is configured with the Django
    settings. `celery.current_app` would not do: it is the application that was created last, and another one in
    another thread.
    """
    global _application  # noqa: PLW0603  one project has one
    if _application is None:
        named = conf.celery_app()
        found = import_string(named) if named else _find and _find()
        if found is None:
            # It may be created later.
            return app_or_default()
        _application = found
    return _application


def find_by(find: Callable[[], Celery | None]) -> None:
    """Find the application so where no setting names it."""
    global _find  # noqa: PLW0603  one process has one
    _find = find


def is_found() -> bool:
    """Return whether the project has such an application; without one, `application()` is Celery's own default."""
    application()
    return _application is not None


def is_own(app: Celery) -> bool:
    """Return whether this is the application whose tasks the ledger keeps."""
    return app is application()


def leads_elsewhere(app: Celery, connection: Connection | None) -> bool:
    """Return whether a connection that the caller chose belongs to another broker than the application's."""
    return connection is not None and not set(_brokers(connection)) & set(_brokers(app.connection_for_write()))


def _brokers(connection: Connection) -> Iterator[tuple[str, str, int | None, str]]:
    default_port = getattr(connection.transport, "default_port", None)
    for url in connection.alt or [connection.as_uri(include_password=True)]:
        parts = parse_url(url)
        host, place = (parts["hostname"] or "localhost").lower(), (parts["virtual_host"] or "").strip("/")
        yield str(connection.transport_cls), host, parts["port"] or default_port, place or "0"


def is_durable(app: Celery, name: str, *, said: bool | None) -> bool:
    """Return whether the ledger keeps this task: what its sender said, else what the task says, else the setting.

    A name that the application does not know is a task of another service. A process that sends by name need not have
    imported the task, so all tasks are imported before a name counts as unknown.
    """
    if said is not None:
        return bool(said)
    task = app.tasks.get(name) or (_imported_task(app, name) if conf.durable() else None)
    if task is not None:
        durable = getattr(task, "durable", None)
        return conf.durable() if durable is None else bool(durable)
    if conf.durable() and name not in _foreign:
        _foreign.add(name)
        logger.warning(
            "task_sent_without_ledger",
            task=name,
            reason="this application does not know it; say durable=True if workers of this application run it",
        )
    return False


def _imported_task(app: Celery, name: str) -> Any:
    if id(app) not in _imported:
        try:
            app.loader.import_default_modules()
        except Exception:
            # A worker does not start with this; the sender goes on with what it knows.
            logger.exception("tasks_not_imported")
        else:
            _imported.add(id(app))
    return app.tasks.get(name)
