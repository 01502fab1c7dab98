"""What Drumline remembers in the database."""

from typing import TypeAlias

from django.db import models
from django.db.models import Q


class TaskState(models.IntegerChoices):
    """Where a task stands."""

    QUEUED = 0
    RUNNING = 1
    FINISHED = 2
    DEAD = 3, "Dead letter"
    DISCARDED = 4


class DurableTask(models.Model):
    """One durable task: the ledger's row, from `delay()` to its end.

    The broker only carries messages that ring for it; what is true is here. A row is `queued` until a worker claims
    it, `running` while that worker holds it, and then finished, a dead letter, or discarded.
    """

    State: TypeAlias = TaskState

    # Celery's task id, or derived from one that is no UUID (drumline.message.ledger_id).
    id = models.UUIDField(primary_key=True)
    name = models.CharField(max_length=255)
    queue = models.CharField(max_length=255)
    # Messages of one queue overtake each other only by priority.
    priority = models.SmallIntegerField(default=0)
    state = models.SmallIntegerField(choices=State.choices, default=State.QUEUED)
    # All that is published, as JSON: body, headers, properties and routing (drumline.message.Message).
    message = models.TextField()

    created_at = models.DateTimeField()
    # Not published before.
    due_at = models.DateTimeField()
    expires_at = models.DateTimeField(null=True)
    # None: the relay publishes it when it is due. Otherwise when it was last published, or was about to be.
    published_at = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    # Grows with every claim and never goes back, so that a close names exactly one run.
    run = models.IntegerField(default=0)
    # How often it was started, and how many of these starts were retries that the task itself asked for.
    attempt = models.IntegerField(default=0)
    retries = models.IntegerField(default=0)
    max_attempts = models.IntegerField()
    # How often the task replaced itself by another under the same id (Celery's Task.replace).
    generation = models.SmallIntegerField(default=0)
    # The Worker that claimed it last.
    worker_id = models.UUIDField(null=True)
    parent_id = models.CharField(max_length=255, default="")
    root_id = models.CharField(max_length=255, default="")

    # Why it is dead or was discarded.
    error = models.TextField(default="")
    traceback = models.TextField(default="")
    # What a task of django.tasks returned, as JSON; None for Celery's tasks, whose results have a backend of their own.
    result = models.TextField(null=True)  # noqa: DJ001  it differs from an empty text
    # What went wrong before and who did what, oldest first:
    # [{"at": …, "what": …, "worker": …, "error": …, "exception": …, "by": …}]
    history = models.JSONField(default=list)

    class Meta:
        db_table = "drumline_ledger"
        # Partial, so that ten million finished rows weigh on nothing but the retention's own index.
        indexes = (
            models.Index(
                fields=["due_at"],
                name="drumline_ledger_unpublished",
                condition=Q(state=TaskState.QUEUED, published_at__isnull=True),
            ),
            models.Index(
                fields=["queue", "priority", "published_at"],
                name="drumline_ledger_published",
                condition=Q(state=TaskState.QUEUED, published_at__isnull=False),
            ),
            models.Index(
                fields=["expires_at"],
                name="drumline_ledger_expiring",
                condition=Q(state=TaskState.QUEUED, expires_at__isnull=False),
            ),
            models.Index(fields=["worker_id"], name="drumline_ledger_running", condition=Q(state=TaskState.RUNNING)),
            models.Index(fields=["finished_at"], name="drumline_ledger_dead", condition=Q(state=TaskState.DEAD)),
            models.Index(
                fields=["finished_at"],
                name="drumline_ledger_finished",
                condition=Q(state__in=(TaskState.FINISHED, TaskState.DISCARDED)),
            ),
        )

    def __str__(self) -> str:
        return f"{self.name} {self.id}"


class Announcement(models.Model):
    """A task that ended where Celery does not see it, written in the transaction that ends it.

    The relay stores the result, counts it for its chord and sends the signal, and then deletes this.
    """

    # A DurableTask; no foreign key, since the ledger's hot rows are not to be locked by one.
    task_id = models.UUIDField(primary_key=True)

    def __str__(self) -> str:
        return str(self.task_id)


class Worker(models.Model):
    """One life of a worker: a restarted instance is a new row under the same name."""

    id = models.UUIDField(primary_key=True)
    # Celery's node name: one instance of the fleet.
    name = models.CharField(max_length=255, db_index=True)
    host = models.CharField(max_length=255)
    pid = models.PositiveIntegerField()
    # Which process that is, for another one of the same machine (drumline.worker.identity); empty when it is unknown.
    process = models.CharField(max_length=255, default="")
    queues = models.CharField(max_length=1000)
    started_at = models.DateTimeField()
    # Grows with every heartbeat: the relay watches it change by its own clock, and no two clocks are compared.
    beats = models.BigIntegerField(default=0)
    beat_at = models.DateTimeField()
    # Why it was last seen not consuming; empty while it does.
    trouble = models.CharField(max_length=255, default="")
    running = models.IntegerField(default=0)
    done = models.BigIntegerField(default=0)
    # The tasks whose messages it had taken from Redis; a release that does not know the column leaves NULL.
    reserved = models.JSONField(null=True, default=list)
    # Set when it ended, or when the relay gave it up: then it holds no task, and ends itself as soon as it notices.
    stopped_at = models.DateTimeField(null=True)

    class Meta:
        indexes = (
            models.Index(fields=["beat_at"], name="drumline_worker_alive", condition=Q(stopped_at__isnull=True)),
        )
        permissions = (("operate_flower", "Can operate workers with Flower"),)

    def __str__(self) -> str:
        return self.name

    @property
    def consumed(self) -> list[str]:
        """Return the names in `queues`."""
        return self.queues.split(",") if self.queues else []


class Heartbeat(models.Model):
    """When a process last said that it is alive, and where it runs."""

    name = models.CharField(max_length=200, unique=True)
    host = models.CharField(max_length=255)
    pid = models.PositiveIntegerField()
    at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return f"{self.name} on {self.host}"
