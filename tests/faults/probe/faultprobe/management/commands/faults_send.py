"""faults_send [[TASK, ARGS, COUNT], ...]: send tasks, and print the id of each that has no count."""

import json

from django.core.management.base import BaseCommand

from faultprobe.sending import send, send_many


class Command(BaseCommand):
    """Send."""

    def add_arguments(self, parser) -> None:
        """Declare what to send."""
        parser.add_argument("json")

    def handle(self, *_args, **options) -> None:
        """Send in the order given, and print the ids."""
        for task, args, count in json.loads(options["json"]):
            if count is None:
                self.stdout.write(send(task, args))
            else:
                send_many(task, args, count)
