"""gunicorn, as systemd starts it: the listening socket is inherited (LISTEN_FDS), so nothing is bound here.

`gunicorn --config=python:drumline.hosting.gunicorn`. An ASGI application is served by uvicorn's worker.
"""

import os
from contextlib import suppress
from importlib.util import find_spec
from typing import Any

from django.apps import apps
from django.conf import settings
from django.template import engines
from django.urls import NoReverseMatch, get_resolver, reverse
from gunicorn import systemd


def _number(name: str, default: int) -> int:
    text = os.environ.get(name) or str(default)
    if not text.isdecimal() or int(text) < 1:
        raise SystemExit(f"{name} is {text!r}, which is not a whole number of at least 1 (example: {default}).")
    return int(text)


def _logging() -> dict[str, Any]:
    """Return the project's logging if it says how gunicorn logs, so that its master writes like all other processes."""
    # A project may set it in its wsgi.py, which only the worker processes import.
    configured: dict[str, Any] = settings.LOGGING if "DJANGO_SETTINGS_MODULE" in os.environ else {}
    return configured if {"gunicorn", "gunicorn.error"} & configured.get("loggers", {}).keys() else {}


_ASGI = os.environ.get("WEB_SERVER") == "asgi"
# uvicorn has given it up to a package of its own.
_UVICORN = "uvicorn_worker.UvicornWorker" if find_spec("uvicorn_worker") else "uvicorn.workers.UvicornWorker"

workers = _number("WEB_CONCURRENCY", 1)
threads = _number("WEB_THREADS", 4)
timeout = _number("WEB_TIMEOUT", 30)
graceful_timeout = _number("WEB_GRACEFUL_TIMEOUT", 30)
worker_class = _UVICORN if _ASGI else "gthread"
# The heartbeat file in memory: a slow disk must not look like a dead worker.
worker_tmp_dir = "/dev/shm"  # noqa: S108
# Longer than nginx keeps an idle connection to here, so that it never sends into one that just closed.
keepalive = 75
# A leak stays bounded; the jitter keeps the processes from restarting together.
max_requests = 10_000
max_requests_jitter = 1_000
# Each process imports the project itself: a reload takes the new code, and no connection is shared by a fork.
preload_app = False
# systemd manages the processes; one more socket would be one more way in.
control_socket_disable = True
logconfig_dict = _logging()
# nginx writes the line of a request, with its id.
accesslog = None

# Where systemd hears READY, kept from gunicorn: its master says READY before any worker has imported the application.
_notify_socket = ""


def _load() -> None:
    """Load what Django, and the health path, would load with the first request, for which a visitor would wait."""
    engines.all()
    # The names of URLs are collected when one is first looked up, in each namespace by itself.
    for name in ("-", *(f"{namespace}:-" for namespace in get_resolver().namespace_dict)):
        with suppress(NoReverseMatch):
            reverse(name)
    if apps.ready and apps.is_installed("drumline"):
        # It has models, which exist only where it is installed.
        from drumline.health.checks import load  # noqa: PLC0415

        load()


def on_starting(server: Any) -> None:  # noqa: ARG001  gunicorn's signature
    """Take systemd's socket out of the environment, where gunicorn's own READY would look for it."""
    global _notify_socket  # noqa: PLW0603  the one place that a worker inherits from its master
    _notify_socket = os.environ.pop("NOTIFY_SOCKET", "")


def post_worker_init(worker: Any) -> None:
    """Say READY from a worker that has imported the application and is about to answer."""
    if settings.configured:
        _load()
    if _notify_socket:
        os.environ["NOTIFY_SOCKET"] = _notify_socket
        systemd.sd_notify("READY=1\nSTATUS=A worker process answers", worker.log, unset_environment=True)
