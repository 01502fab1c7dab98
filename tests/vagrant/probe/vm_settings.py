"""The production settings with the probe's tasks."""

from config.settings.production import *  # noqa: F403
from config.settings.production import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS[:-1], "vmprobe", INSTALLED_APPS[-1]]
