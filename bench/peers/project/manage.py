"""Django's commands with the settings of the peer that BENCH_PEER names."""

import os
import sys

from django.core.management import execute_from_command_line

os.environ["DJANGO_SETTINGS_MODULE"] = "settings"

if __name__ == "__main__":
    execute_from_command_line(sys.argv)
