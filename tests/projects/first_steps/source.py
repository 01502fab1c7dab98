"""Celery's "First steps with Django", as a reader of it types it after `django-admin startproject`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.fresh_project import HOLD, start

if TYPE_CHECKING:
    from pathlib import Path

# What only a host needs comes by itself.
REQUIREMENTS = ["celery", "Django<6"]
FILES = {
    "proj/celery.py": """\
import os

from celery import Celery

os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'proj.settings')

app = Celery('proj')
app.config_from_object('django.conf:settings', namespace='CELERY')
app.autodiscover_tasks()
""",
    "proj/__init__.py": """\
from .celery import app as celery_app

__all__ = ('celery_app',)
""",
    "demoapp/__init__.py": "",
    "demoapp/tasks.py": """\
import time
from pathlib import Path

from celery import shared_task


@shared_task
def note(path):
    with Path(path).open('a') as file:
        file.write('noted\\n')

"""
    + HOLD,
}
SETTINGS = """
INSTALLED_APPS += ['demoapp']
CELERY_TASK_DEFAULT_QUEUE = 'Celery'
CELERY_TASK_ROUTES = {'demoapp.tasks.note': {'queue': 'HIGH-priority'}}
CELERY_BEAT_SCHEDULE = {
    'note': {'task': 'demoapp.tasks.note', 'schedule': 1, 'args': ['/var/lib/drumline/scheduled']},
}
"""


def make(checkout: Path) -> None:
    """Write the checkout."""
    start(checkout, "proj", FILES, SETTINGS, REQUIREMENTS)
