"""faults_send TASK [ARGS] [--count N]: send tasks and print the id, or how many."""

import json

from django.core.management.base import BaseCommand

from faultprobe.sending import send, send_many


class Command(BaseCommand):
    """Send."""

    def add_arguments(self, parser) -> None:
        """Declare the task, its arguments and how many."""
        parser.add_argument("task")
        parser.add_argument("json", nargs="?", default="[]")
        parser.add_argument("--count", type=int)

    def handle(self, *_args, **options) -> None:
        """Send, and print the id of one."""
        args = json.loads(options["json"])
        if options["count"] is None:
            self.stdout.write(send(options["task"], args))
        else:
            send_many(options["task"], args, options["count"])
