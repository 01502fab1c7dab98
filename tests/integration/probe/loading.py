"""The application, which says with each answer what the request had to load first."""

import sys

from django.urls import URLResolver

from config.wsgi import application as _application

_collected = []
_collect = URLResolver._populate


def _counted(self):
    _collected.append(self)
    return _collect(self)


URLResolver._populate = _counted


def application(environ, start_response):
    """Answer as the application does, with the header X-Loaded."""
    modules, collected = set(sys.modules), len(_collected)

    def start(status, headers, exc_info=None):
        loaded = sorted(set(sys.modules) - modules) + ["URLs"] * (len(_collected) - collected)
        return start_response(status, [*headers, ("X-Loaded", " ".join(loaded))], exc_info)

    return _application(environ, start)
