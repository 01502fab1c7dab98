"""The production settings, and the probe's tasks."""

import os

from config.settings.production import *  # noqa: F403
from config.settings.production import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS[:-1], "probe", INSTALLED_APPS[-1]]
CELERY_WORKER_PREFETCH_MULTIPLIER = int(os.environ.get("PROBE_PREFETCH", "1"))
