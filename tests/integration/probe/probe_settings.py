"""The production settings, and the probe's tasks."""

from config.settings.production import *  # noqa: F403
from config.settings.production import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS[:-1], "probe", INSTALLED_APPS[-1]]
