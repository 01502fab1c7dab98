"""A project on ASGI with channels: a websocket that echoes, uploads that only a view hands out, a daemon and a timer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.fresh_project import HOLD, start

if TYPE_CHECKING:
    from pathlib import Path

# What only a host needs comes by itself.
REQUIREMENTS = ["celery", "channels", "dj-database-url", "Django<6"]
COMMAND = """\
import time
from pathlib import Path

from django.conf import settings
from django.core.management.base import BaseCommand


class Command(BaseCommand):
    def handle(self, *args, **options):
        {body}
"""
FILES = {
    "chat/celery.py": """\
import os

from celery import Celery

os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'chat.settings')
app = Celery('chat')
app.config_from_object('django.conf:settings')
app.autodiscover_tasks()
""",
    "chat/__init__.py": "from .celery import app as celery_app\n",
    "chat/asgi.py": """\
import os

from channels.generic.websocket import WebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.asgi import get_asgi_application
from django.urls import path

os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'chat.settings')


class Echo(WebsocketConsumer):
    def receive(self, text_data=None, bytes_data=None):
        self.send(text_data='echo ' + text_data)


application = ProtocolTypeRouter(
    {'http': get_asgi_application(), 'websocket': URLRouter([path('ws/echo/', Echo.as_asgi())])}
)
""",
    "chat/urls.py": """\
from django.contrib import admin
from django.core.cache import cache
from django.http import HttpResponse
from django.urls import path


def handed_out(request):
    return HttpResponse(headers={'X-Accel-Redirect': '/media/private.txt', 'Content-Type': 'text/plain'})


def cached(request):
    cache.set('seen', 'by the cache')
    return HttpResponse(cache.get('seen'))


urlpatterns = [path('admin/', admin.site.urls), path('file/', handed_out), path('cached/', cached)]
""",
    "rooms/__init__.py": "",
    "rooms/tasks.py": """\
import time
from pathlib import Path

from celery import shared_task

"""
    + HOLD,
    "rooms/management/__init__.py": "",
    "rooms/management/commands/__init__.py": "",
    "rooms/management/commands/stamp.py": COMMAND.format(body="(settings.BASE_DIR / 'notes' / 'stamp').touch()"),
    "rooms/management/commands/tick.py": COMMAND.format(
        body="while True:\n            (settings.BASE_DIR / 'notes' / 'tick').touch()\n            time.sleep(1)"
    ),
    "notes/.gitkeep": "",
}
SETTINGS = """
import os

import dj_database_url

DEBUG = os.environ.get('DEBUG', 'True') == 'True'
SECRET_KEY = os.environ['SECRET_KEY']
ALLOWED_HOSTS = os.environ['ALLOWED_HOSTS'].split(',')
CSRF_TRUSTED_ORIGINS = os.environ['CSRF_TRUSTED_ORIGINS'].split(',')
DATABASES = {'default': dj_database_url.parse(os.environ['CHAT_DSN'])}
CACHES = {'default': {'BACKEND': 'django.core.cache.backends.redis.RedisCache', 'LOCATION': os.environ['REDIS_URL']}}
INSTALLED_APPS += ['channels', 'rooms']
ASGI_APPLICATION = 'chat.asgi.application'
STATIC_ROOT = BASE_DIR / 'staticfiles'
MEDIA_ROOT = BASE_DIR / 'uploads'
"""


def make(checkout: Path) -> None:
    """Write the checkout."""
    start(checkout, "chat", FILES, SETTINGS, REQUIREMENTS)
