"""relay: publish tasks from the ledger until it is stopped."""

import signal
import socket
import time
from typing import Any

from django.core.management.base import BaseCommand
from django.db import DatabaseError, InterfaceError, connection

from drumline.application import application, is_found
from drumline.health.heartbeats import PUBLISHING, heartbeat_write
from drumline.logs import get_logger
from drumline.relay.listening import Listener
from drumline.relay.relay import ROUND, Relay
from drumline.systemd import sd_notify

logger = get_logger(__name__)

# Seconds between two signs of life.
HEARTBEAT = 5.0


class Command(BaseCommand):
    """Runs until TERM or INT, through every outage of the database and the broker."""

    help = "Publish tasks that are due, that a dead worker held, or that the broker lost. Any number of relays may run."

    stopping = False

    def handle(self, *_args: Any, **_options: Any) -> None:
        """Do round after round."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        if not is_found():
            logger.warning(
                "celery_application_not_found",
                broker=application().connection_for_write().as_uri(),
                reason="no Celery application is configured with the Django settings; set DRUMLINE_CELERY_APP to its path",
            )
        relay, listener, answered = Relay(), Listener(), True
        heartbeat_due = 0.0
        # It reports ends to the signals and with the options that the tasks' modules define.
        application().loader.import_default_modules()
        # Ready at once: a database that is slow to start is no reason to start the relay again.
        sd_notify("READY=1", "STATUS=starting")
        while not self.stopping:
            try:
                seconds = relay.round()
                if time.monotonic() >= heartbeat_due:
                    heartbeat_write(name=f"relay@{socket.gethostname()}")
                    if relay.publishing:
                        heartbeat_write(name=f"{PUBLISHING}@{socket.gethostname()}")
                    heartbeat_due = time.monotonic() + HEARTBEAT
                if not answered:
                    logger.info("relay_database_answers")
                answered = True
                sd_notify("WATCHDOG=1", f"STATUS={relay.status()}")
                listener.wait(seconds)
            except (DatabaseError, InterfaceError) as error:
                if answered:
                    logger.warning("relay_database_unavailable", error=str(error))
                answered = False
                relay.forget()
                connection.close()
                listener.close()
                sd_notify("WATCHDOG=1", "STATUS=waiting for the database")
                listener.pause(ROUND)
        sd_notify("STOPPING=1")
        listener.close()

    def _stop(self, *_: object) -> None:
        self.stopping = True
