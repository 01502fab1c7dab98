"""The production settings with the probe's tasks; a test shortens what it would have to wait for."""

import os

from config.settings.production import *  # noqa: F403
from config.settings.production import CELERY_BROKER_TRANSPORT_OPTIONS, INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS[:-1], "faultprobe", INSTALLED_APPS[-1]]
ROOT_URLCONF = "faultprobe.urls"

if "visibility_timeout" in CELERY_BROKER_TRANSPORT_OPTIONS:
    # Redelivery as soon as the time is over, not up to 100 s later: the short time is the fault.
    CELERY_BROKER_TRANSPORT_OPTIONS |= {"unacked_restore_interval": 1, "unacked_restore_throttle": 1}
CELERY_TASK_SOFT_TIME_LIMIT = int(os.environ.get("FAULTS_SOFT_TIME_LIMIT", "1500"))
CELERY_TASK_TIME_LIMIT = int(os.environ.get("FAULTS_TIME_LIMIT", "1800"))
DRUMLINE_LEASE = float(os.environ.get("DRUMLINE_LEASE", "15"))
