#!/usr/bin/env python3
"""Run a management command: DJANGO_SETTINGS_MODULE=config.settings.development ./manage.py help."""

import sys

from django.core.management import execute_from_command_line

from config import env


def main() -> None:
    """Say in one line what is wrong with the environment, instead of a traceback."""
    try:
        env.settings_module()
        execute_from_command_line(sys.argv)
    except env.EnvironmentProblemError as problem:
        sys.exit(str(problem))


if __name__ == "__main__":
    main()
