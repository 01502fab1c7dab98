"""What the main process learns of a task, told to the ledger: the death of its process and the hard time limit."""

from functools import partial
from typing import Any

from billiard.einfo import ExceptionWithTraceback  # type: ignore[attr-defined]  # incomplete stubs
from billiard.exceptions import TimeLimitExceeded, WorkerLostError
from celery.exceptions import InvalidTaskError
from celery.utils.log import get_logger
from celery.worker.request import Request
from celery.worker.state import task_ready

from drumline.celery_hooks import controller
from drumline.ledger import ends, recovery
from drumline.message import ledger_id
from drumline.worker import heartbeat
from drumline.worker.identity import current_id

logger = get_logger(__name__)


def _are_limits(limits: Any) -> bool:
    return (
        isinstance(limits, (list, tuple))
        and len(limits) == 2  # noqa: PLR2004  the hard one and the soft one
        and all(limit is None or isinstance(limit, (int, float)) for limit in limits)
    )


class LedgerRequest(Request):
    """Celery's request; a durable task that its process could not end is ended in the ledger."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Celery unpacks them once the task has its place in the pool, which an error there would keep for ever.
        if not _are_limits(self.time_limits):
            raise InvalidTaskError(f"invalid time limits {self.time_limits!r}")

    @property
    def durable(self) -> bool:
        """Return whether the ledger holds this task."""
        return bool(self.request_dict.get("durable"))

    def acknowledge(self) -> None:
        """Acknowledge the message; let what prevents it end the connection, if that is the one in use.

        Celery only logs it. kombu would then go on counting the message of Redis as one that is worked on, and with a
        prefetch of one it would ask for no other (kombu 5.7, `transport.redis.QoS.ack`).
        """
        if controller.consumes_from(self.message.channel):
            self._connection_errors = ()
        super().acknowledge()

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:  # noqa: FBT001, FBT002  Celery's signature
        """Acknowledge a task whose process died, since the ledger starts it again; leave the rest to Celery."""
        error = exc_info.exception
        if isinstance(error, ExceptionWithTraceback):
            error = error.exc
        if self.durable and isinstance(error, WorkerLostError):
            task_ready(self)
            self.acknowledge()
            logger.error("%s[%s]: %s", self.name, self.id, error)
            self._tell(recovery.task_lost, str(error))
            return None
        if self.durable and isinstance(error, TimeLimitExceeded):
            at_limit = partial(ends.task_failed, exception="celery.exceptions.TimeLimitExceeded")
            self._tell(at_limit, f"it took longer than its time limit ({error})")
        return super().on_failure(exc_info, send_failed_event=send_failed_event, return_ok=return_ok)

    def _announce_revoked(self, reason: str, terminated: bool, signum: Any, expired: bool) -> None:  # noqa: FBT001  Celery's signature
        """Leave the end of a task that waits to its row, which several workers and the relay may discard at once.

        Celery would store REVOKED for a second delivery of a task that has ended, too.
        """
        if terminated or not self.durable:
            super()._announce_revoked(reason, terminated, signum, expired)  # type: ignore[misc]  # incomplete stubs
            return
        task_ready(self)
        self.send_event("task-revoked", terminated=terminated, signum=signum, expired=expired)
        self.acknowledge()
        self._already_revoked = True
        heartbeat.later(partial(ends.task_revoked, ledger_id(self.id), expired=expired))

    def on_timeout(self, soft: bool, timeout: float) -> Any:  # noqa: FBT001  Celery's signature
        """Leave the hard limit to `on_failure`, which is called before and would report it a second time."""
        if soft or not self.durable:
            return super().on_timeout(soft, timeout)
        logger.error("%s[%s]: hard time limit (%s s) exceeded", self.name, self.id, timeout)
        return None

    def _tell(self, service: Any, error: str) -> None:
        which = {"worker_id": current_id(), "generation": self.replaced_task_nesting or 0}
        heartbeat.later(partial(service, ledger_id(self.id), error=error, **which))
