"""The development settings, and the probe's tasks."""

from config.settings.development import *  # noqa: F403
from config.settings.development import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS[:-1], "probe", INSTALLED_APPS[-1]]
