"""The project's own Celery application, watched: `celery --app=drumline.hosting.celery:app worker`.

Importing this module changes nothing; asking it for `app` does.
"""

from functools import cache
from typing import TYPE_CHECKING, Any

import django
from celery import Celery

from drumline import application
from drumline.hosting import liveness, project

if TYPE_CHECKING:
    app: Celery


@cache
def _application() -> Celery:
    found = project.celery_application()
    if project.has_ledger():
        # Beat reads its scheduler before Celery sets Django up, and the ledger sets it.
        django.setup()
    application.find_by(lambda: found)
    liveness.watch(found)
    return found


def __getattr__(name: str) -> Any:
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _application()
