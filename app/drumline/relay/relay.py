"""The relay: rings the bell for what is due, and again for what a dead worker held or the broker lost.

Any number of relays may run. Each round is a few short statements on partial indexes; what two relays see at once is
locked by one and skipped by the other.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import structlog
from celery import current_app
from django.db import connection, models, transaction
from django.db.models import Max
from django.db.models.functions import Now

from drumline import conf
from drumline.ledger import services
from drumline.ledger.announcements import ResultsUnavailableError, announce_ends
from drumline.ledger.message import Message
from drumline.ledger.publishing import PublishError, breaker, publish
from drumline.models import DurableTask, Worker
from drumline.relay.depth import empty_queues

logger = structlog.get_logger(__name__)

State = DurableTask.State

# Messages in one pipelined publish.
BATCH = 500
# Longest pause between two rounds, in seconds.
ROUND = 1.0
# A message this old that should have been delivered is lost; a younger one may be on its way.
MARGIN = timedelta(seconds=5)
# Seconds between two looks for rows that were kept long enough.
PURGE = 10.0
PURGE_BATCH = 2000
# Ends in one round: each costs a few statements, or a round trip to another result backend.
EXPIRE_BATCH = 1000
ANNOUNCE_BATCH = 100
# Seconds for which a result backend that does not answer is left alone.
ANNOUNCE_PAUSE = 30.0


class Relay:
    """One relay's memory between its rounds; everything else is in the database."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._beats: dict[UUID, tuple[int, float]] = {}
        self._watermarks: dict[tuple[str, int], datetime] = {}
        self._purge_due = 0.0
        self._announce_due = 0.0
        self.published = self.lost = self.reclaimed = 0

    def round(self) -> float:
        """Do all there is to do; return for how many seconds nothing is due."""
        self.reclaimed += self.reclaim()
        self.lost += self.find_lost()
        more = services.tasks_expire(limit=EXPIRE_BATCH) == EXPIRE_BATCH
        self.published += self.publish_due()
        more |= self._announce()
        self._purge()
        return 0.0 if more else self._seconds_to_next()

    def status(self) -> str:
        """Say what was done since the start."""
        broker = "" if breaker.is_closed() else ", the broker does not answer"
        return f"{self.published} published, {self.lost} lost by the broker, {self.reclaimed} of dead workers{broker}"

    def forget(self) -> None:
        """Start every worker's lease anew: while the database was away, none of them could say that it lives."""
        self._beats.clear()

    def publish_due(self) -> int:
        """Publish what is due and was not published, oldest first; return how many the broker took."""
        published = 0
        while breaker.is_closed():
            try:
                batch = self._publish_batch()
            except PublishError as error:
                logger.warning("relay_broker_unavailable", error=str(error))
                break
            published += batch
            if batch < BATCH:
                break
        return published

    @transaction.atomic
    def _publish_batch(self) -> int:
        unpublished = DurableTask.objects.filter(state=State.QUEUED, published_at=None, due_at__lte=datetime.now(UTC))
        rows = list(_locked(unpublished).order_by("due_at").only("id", "message")[:BATCH])
        if rows:
            publish([Message.loads(row.message) for row in rows])
            DurableTask.objects.filter(id__in=[row.id for row in rows]).update(published_at=Now())
        return len(rows)

    def reclaim(self) -> int:
        """Take back what dead workers hold; return how many tasks it was.

        A worker is dead when its counter stood still for a lease by this relay's own clock: no two clocks are compared,
        and a database that was away is no sign of death.
        """
        now, alive = self._clock(), dict(Worker.objects.filter(stopped_at=None).values_list("id", "beats"))
        running = DurableTask.objects.filter(state=State.RUNNING)
        holding = {worker for worker in running.values_list("worker_id", flat=True).distinct() if worker}
        ended = set(Worker.objects.filter(id__in=holding - alive.keys()).values_list("id", flat=True))
        # A worker may claim a moment before its own row is written.
        watched = alive | dict.fromkeys(holding - alive.keys() - ended, -1)
        self._beats = {worker: self._unchanged(worker, beats) or (beats, now) for worker, beats in watched.items()}
        for worker, (beats, since) in self._beats.items():
            if now - since > conf.lease():
                silent = Worker.objects.filter(id=worker, beats=beats, stopped_at=None)
                if worker not in alive or silent.update(stopped_at=Now(), trouble="silent for longer than its lease"):
                    logger.error("worker_dead", worker=str(worker))
                    ended.add(worker)
        return sum(services.worker_release(worker, error="its worker died") for worker in ended)

    def _unchanged(self, worker: UUID, beats: int) -> tuple[int, float] | None:
        seen = self._beats.get(worker)
        return seen if seen and seen[0] == beats else None

    def find_lost(self) -> int:
        """Mark for publishing what the broker lost; return how many.

        A message is lost when one that was sent later has started, or when its queue is empty.
        """
        running = DurableTask.objects.filter(state=State.RUNNING, published_at__isnull=False)
        for queue, priority, latest in running.values_list("queue", "priority").annotate(Max("published_at")):
            key = (queue, priority)
            self._watermarks[key] = max(latest, self._watermarks.get(key, latest))
        lost = 0
        for (queue, priority), watermark in self._watermarks.items():
            lost += _mark(_published(queue, watermark - MARGIN).filter(priority=priority))
        before = datetime.now(UTC) - MARGIN
        suspects = [queue for queue in current_app.amqp.queues if _published(queue, before).exists()]
        for queue in empty_queues(suspects):
            lost += _mark(_published(queue, before))
        return lost

    def _announce(self) -> bool:
        """Make known to Celery what ended without it; return whether there is more."""
        if self._clock() < self._announce_due:
            return False
        try:
            return announce_ends(limit=ANNOUNCE_BATCH) == ANNOUNCE_BATCH
        except ResultsUnavailableError as error:
            logger.warning("relay_results_unavailable", error=str(error))
            self._announce_due = self._clock() + ANNOUNCE_PAUSE
            return False

    def _purge(self) -> None:
        if self._clock() < self._purge_due:
            return
        services.workers_purge()
        # A full batch has another one behind it.
        if services.finished_purge(limit=PURGE_BATCH) < PURGE_BATCH:
            self._purge_due = self._clock() + PURGE

    def _seconds_to_next(self) -> float:
        unpublished = DurableTask.objects.filter(state=State.QUEUED, published_at=None)
        due = unpublished.order_by("due_at").values_list("due_at", flat=True).first()
        if self._purge_due <= self._clock():
            return 0.0
        if due is None or not breaker.is_closed():
            return ROUND
        return min(ROUND, max(0.0, (due - datetime.now(UTC)).total_seconds()))


def _published(queue: str, before: datetime) -> models.QuerySet[DurableTask]:
    return DurableTask.objects.filter(state=State.QUEUED, queue=queue, published_at__lt=before)


def _locked(rows: models.QuerySet[DurableTask]) -> models.QuerySet[DurableTask]:
    return rows.select_for_update(skip_locked=connection.features.has_select_for_update_skip_locked)


@transaction.atomic
def _mark(rows: models.QuerySet[DurableTask]) -> int:
    ids = list(_locked(rows).values_list("id", flat=True)[: 10 * BATCH])
    return DurableTask.objects.filter(id__in=ids).update(published_at=None) if ids else 0
