"""The relay: rings the bell for what is due, and again for what a dead worker held or the broker lost.

Any number of relays may run. Each round is a few short statements on partial indexes; what two relays see at once is
locked by one and skipped by the other.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from django.db import models, transaction
from django.db.models import Max
from django.db.models.functions import Now

from drumline import conf, storable
from drumline.broker.depth import empty_queues
from drumline.broker.publishing import PublishError, RefusedError, breaker, publish
from drumline.broker.routing import is_lowest_first
from drumline.ledger.ends import task_refused, tasks_expire
from drumline.ledger.locking import skipping_locked
from drumline.ledger.recovery import worker_release
from drumline.ledger.retention import finished_purge, workers_purge
from drumline.ledger.store import store
from drumline.logs import get_logger
from drumline.message import Message
from drumline.models import DurableTask, Worker
from drumline.relay.announcements import ResultsUnavailableError, announce_ends

logger = get_logger(__name__)

State = DurableTask.State

# Messages in one pipelined publish, and how many of these one round does: a long backlog takes many rounds, so that the
# relay says that it lives, and looks after dead workers, in between.
BATCH = 500
BATCHES = 10
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
# A message that cannot be published is tried again after so many seconds, then after twice as many, …
REFUSED_PAUSE, REFUSED_PAUSE_MAX = 5.0, 300.0
# … until it is a dead letter, if others could be published in the meantime.
REFUSED_TRIES = 5
# How many of them one round tries, and how many one relay remembers.
REFUSED_ROUND, REFUSED_KNOWN = 10, 1000


@dataclass(slots=True)
class Refused:
    """A message that could not be published."""

    error: str
    tries: int
    again_at: float
    # How many others the relay had published when this one failed first.
    published: int


class Relay:
    """One relay's memory between its rounds; everything else is in the database."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._beats: dict[UUID, tuple[int, float]] = {}
        self._watermarks: dict[tuple[str, int], datetime] = {}
        self._purge_due = 0.0
        self._announce_due = 0.0
        self._refused: dict[UUID, Refused] = {}
        self.published = self.lost = self.reclaimed = 0
        # Whether the last round was able to publish: it did, or nothing was due.
        self.publishing = False

    def round(self) -> float:
        """Do all there is to do; return for how many seconds nothing is due."""
        self.reclaimed += self.reclaim()
        self.lost += self.find_lost()
        more = tasks_expire(limit=EXPIRE_BATCH) == EXPIRE_BATCH
        more |= self.publish_due()
        more |= self._announce()
        self._purge()
        return 0.0 if more else self._seconds_to_next()

    def status(self) -> str:
        """Say what was done since the start."""
        broker = "" if breaker.is_closed() else ", the broker does not answer"
        refused = f", {len(self._refused)} cannot be published" if self._refused else ""
        done = f"{self.published} published, {self.lost} lost by the broker, {self.reclaimed} of dead workers"
        return f"{done}{refused}{broker}"

    def forget(self) -> None:
        """Start every worker's lease anew: while the database was away, none of them could say that it lives."""
        self._beats.clear()

    def publish_due(self) -> bool:
        """Publish what is due and was not published, oldest first; return whether there is more."""
        self._bury_refused()
        self.publishing = False
        for _ in range(BATCHES):
            if not breaker.is_closed():
                return False
            try:
                seen, published = self._publish_batch()
            except PublishError as error:
                logger.warning("relay_broker_unavailable", error=str(error))
                return False
            self.published += published
            # What is refused is due, too; it is only not tried again yet.
            self.publishing |= published > 0 or not (seen or self._refused)
            if seen < BATCH or published < seen:
                return False
        return True

    @transaction.atomic
    def _publish_batch(self) -> tuple[int, int]:
        """Return how many rows were due, and how many of them the broker took."""
        due = self._unpublished().filter(due_at__lte=datetime.now(UTC))
        rows = list(skipping_locked(due).order_by("due_at").only("id", "name", "message")[:BATCH])
        if not rows:
            return 0, 0
        try:
            publish([Message.loads(row.message) for row in rows])
            taken = [row.id for row in rows]
        except PublishError:
            raise
        except Exception:  # noqa: BLE001  it is logged with the message that it belongs to
            taken = self._publish_one_by_one(rows)
        for task_id in taken:
            self._refused.pop(task_id, None)
        store().mark_published(taken)
        return len(rows), len(taken)

    def _unpublished(self) -> models.QuerySet[DurableTask]:
        rows = DurableTask.objects.filter(state=State.QUEUED, published_at=None)
        later = [task_id for task_id, refused in self._refused.items() if refused.again_at > self._clock()]
        return rows.exclude(id__in=later) if later else rows

    def _publish_one_by_one(self, rows: list[DurableTask]) -> list[UUID]:
        """Publish what can be published of a batch that could not; return the ids of what the broker took."""
        taken: list[UUID] = []
        failures = 0
        for row in rows:
            try:
                publish([Message.loads(row.message)])
            except PublishError as error:
                logger.warning("relay_broker_unavailable", error=str(error))
                break
            except Exception as error:
                logger.exception("message_not_published", task=row.name, task_id=str(row.id), error=str(error))
                self._refuse(row.id, str(error) if isinstance(error, RefusedError) else storable.error_text(error))
                failures += 1
                if failures == REFUSED_ROUND:
                    break
            else:
                taken.append(row.id)
        return taken

    def _refuse(self, task_id: UUID, error: str) -> None:
        before = self._refused.pop(task_id, None)
        tries = before.tries + 1 if before else 1
        pause = min(REFUSED_PAUSE * 2 ** (tries - 1), REFUSED_PAUSE_MAX)
        published = before.published if before else self.published
        self._refused[task_id] = Refused(error, tries, self._clock() + pause, published)
        if len(self._refused) > REFUSED_KNOWN:
            del self._refused[next(iter(self._refused))]

    def _bury_refused(self) -> None:
        """Make dead letters of what cannot be published; as long as nothing can, it is no fault of theirs."""
        for task_id, refused in list(self._refused.items()):
            if refused.tries >= REFUSED_TRIES and self.published > refused.published:
                task_refused(task_id, error=f"it could not be published: {refused.error}")
                del self._refused[task_id]

    def reclaim(self) -> int:
        """Take back what dead workers hold; return how many tasks it was.

        A worker is dead when its counter stood still for a lease by this relay's own clock: no two clocks are compared,
        and a database that was away is no sign of death.
        """
        now, alive = self._clock(), dict(Worker.objects.filter(stopped_at=None).values_list("id", "beats"))
        running = DurableTask.objects.filter(state=State.RUNNING)
        holding = {worker for worker in running.values_list("worker_id", flat=True).distinct() if worker}
        # One may have begun, and claimed, since those who live were read.
        over = Worker.objects.filter(id__in=holding - alive.keys()).exclude(stopped_at=None)
        ended = set(over.values_list("id", flat=True))
        # A worker may claim a moment before its own row is written.
        watched = alive | dict.fromkeys(holding - alive.keys() - ended, -1)
        self._beats = {worker: self._unchanged(worker, beats) or (beats, now) for worker, beats in watched.items()}
        for worker, (beats, since) in self._beats.items():
            if now - since > conf.lease():
                silent = Worker.objects.filter(id=worker, beats=beats, stopped_at=None)
                if worker not in alive or silent.update(stopped_at=Now(), trouble="silent for longer than its lease"):
                    logger.error("worker_dead", worker=str(worker))
                    ended.add(worker)
        return sum(worker_release(worker, error="its worker died") for worker in ended)

    def _unchanged(self, worker: UUID, beats: int) -> tuple[int, float] | None:
        seen = self._beats.get(worker)
        return seen if seen and seen[0] == beats else None

    def find_lost(self) -> int:
        """Mark for publishing what the broker lost; return how many.

        A message is lost when one that was sent later has started, or when its queue is empty. Of a queue that no worker of
        the ledger consumes nothing is lost: another service may have taken the message, and if not, nobody misses it yet.
        """
        running = DurableTask.objects.filter(state=State.RUNNING, published_at__isnull=False)
        for queue, priority, latest in running.values_list("queue", "priority").annotate(Max("published_at")):
            key = (queue, priority)
            self._watermarks[key] = max(latest, self._watermarks.get(key, latest))
        lost = 0
        sooner = "lte" if is_lowest_first() else "gte"
        for (queue, priority), watermark in self._watermarks.items():
            # What is delivered sooner is overtaken, too: its own list may never be used again.
            lost += _mark(_published(queue, watermark - MARGIN).filter(**{f"priority__{sooner}": priority}))
        before = datetime.now(UTC) - MARGIN
        served = {queue for worker in Worker.objects.filter(stopped_at=None) for queue in worker.consumed}
        for queue in empty_queues(queue for queue in _queues_published(before) if queue in served):
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
        workers_purge()
        # A full batch has another one behind it.
        if finished_purge(limit=PURGE_BATCH) < PURGE_BATCH:
            self._purge_due = self._clock() + PURGE

    def _seconds_to_next(self) -> float:
        due = self._unpublished().order_by("due_at").values_list("due_at", flat=True).first()
        if self._purge_due <= self._clock():
            return 0.0
        if due is None or not breaker.is_closed():
            return ROUND
        return min(ROUND, max(0.0, (due - datetime.now(UTC)).total_seconds()))


def _published(queue: str, before: datetime) -> models.QuerySet[DurableTask]:
    return DurableTask.objects.filter(state=State.QUEUED, queue=queue, published_at__lt=before)


def _queues_published(before: datetime) -> Iterator[str]:
    """Yield the queues of which something was published before; each is one step in an index, however much waits."""
    published = DurableTask.objects.filter(state=State.QUEUED, published_at__lt=before)
    queue: str | None = ""
    while queue is not None:
        queue = published.filter(queue__gt=queue).order_by("queue").values_list("queue", flat=True).first()
        if queue is not None:
            yield queue


@transaction.atomic
def _mark(rows: models.QuerySet[DurableTask]) -> int:
    ids = list(skipping_locked(rows).values_list("id", flat=True)[: 10 * BATCH])
    return store().mark_unpublished(ids)
