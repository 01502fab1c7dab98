"""What the warehouse holds, and what is on its way there.

Two ways lead into it: the figures of a day, made by a chain of three steps, and the movements of a CSV file, read by a
chord of chunks. Both stage what they have, and show it in one transaction.
"""

from typing import ClassVar

from django.conf import settings
from django.db import models


class DailyRun(models.Model):
    """Where the chain that makes a day's figures stands.

    A day has one run. Making its figures again starts the run over.
    """

    class State(models.TextChoices):
        """Whether the chain goes on."""

        RUNNING = "running"
        DONE = "done"
        FAILED = "failed"

    class Step(models.TextChoices):
        """The links of the chain, in their order."""

        FETCH = "fetch"
        TRANSFORM = "transform"
        LOAD = "load"

    # In the site's time zone.
    date = models.DateField(unique=True)
    state = models.CharField(max_length=10, choices=State, default=State.RUNNING)
    # The step that is to be done next, or the one that failed.
    step = models.CharField(max_length=10, choices=Step, default=Step.FETCH)
    # Why it failed.
    error = models.TextField(blank=True)
    # What transform hands to load: [[measure, hour, value], …], a few dozen at the most.
    figures = models.JSONField(default=list)
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"{self.date}: {self.state} ({self.step})"


class StagedEvent(models.Model):
    """Something that happened on a run's day: what fetch hands to transform."""

    run = models.ForeignKey(DailyRun, on_delete=models.CASCADE, related_name="events")
    measure = models.CharField(max_length=60)
    at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.measure} at {self.at:%H:%M}"


class DailyFigure(models.Model):
    """How often something happened in one hour of a day, by the site's clock. It names nobody."""

    date = models.DateField()
    measure = models.CharField(max_length=60)
    hour = models.PositiveSmallIntegerField()
    value = models.PositiveIntegerField()

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["date", "measure", "hour"], name="warehouse_figure_once"),
        ]

    def __str__(self) -> str:
        return f"{self.date} {self.hour:02}h {self.measure}: {self.value}"


class CsvImport(models.Model):
    """A CSV file of stock movements, from its upload to its end.

    Its movements are visible all at once when it is loaded; of one that failed nothing is.
    """

    class State(models.TextChoices):
        """Where it stands."""

        RECEIVED = "received"
        PROCESSING = "processing"
        LOADED = "loaded"
        FAILED = "failed"

    # Who imported figures is deactivated, not deleted: the figures stay.
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="csv_imports")
    state = models.CharField(max_length=10, choices=State, default=State.RECEIVED)
    size = models.PositiveBigIntegerField(help_text="Bytes.")
    received_at = models.DateTimeField()
    # How many chunks it was cut into.
    chunk_count = models.PositiveIntegerField(default=0)
    loaded = models.PositiveIntegerField(default=0, help_text="Movements that became visible.")
    duplicates = models.PositiveIntegerField(default=0, help_text="Rows whose reference was there before.")
    # By currency: {"EUR": {"movements": 2, "quantity": 7, "amount": "12.50"}}
    totals = models.JSONField(default=dict)
    # Why it failed.
    error = models.TextField(blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"import {self.pk}"


class CsvPiece(models.Model):
    """Bytes of an upload, as they came. Web and workers share no file system, but they share the database."""

    csv_import = models.ForeignKey(CsvImport, on_delete=models.CASCADE, related_name="pieces")
    # Its place in the file: from byte `start` up to, and without, byte `end`.
    start = models.PositiveBigIntegerField()
    end = models.PositiveBigIntegerField()
    data = models.BinaryField()

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["csv_import", "start"], name="warehouse_piece_once"),
        ]

    def __str__(self) -> str:
        return f"bytes {self.start} to {self.end} of import {self.csv_import_id}"


class CsvChunk(models.Model):
    """Whole records of a file, as many as one task reads."""

    csv_import = models.ForeignKey(CsvImport, on_delete=models.CASCADE, related_name="chunks")
    number = models.PositiveIntegerField(help_text="From 1.")
    start = models.PositiveBigIntegerField()
    end = models.PositiveBigIntegerField()
    first_line = models.PositiveIntegerField()
    done_at = models.DateTimeField(null=True, blank=True)
    staged = models.PositiveIntegerField(default=0, help_text="Rows that are accepted so far.")
    rejected = models.PositiveIntegerField(default=0, help_text="Rows that were refused.")
    # Why it failed.
    error = models.TextField(blank=True)

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["csv_import", "number"], name="warehouse_chunk_once"),
        ]

    def __str__(self) -> str:
        return f"chunk {self.number} of import {self.csv_import_id}"


class RejectedRow(models.Model):
    """A row that was refused; not every one of a file in which most are."""

    csv_import = models.ForeignKey(CsvImport, on_delete=models.CASCADE, related_name="rejects")
    line = models.PositiveIntegerField(help_text="Where the row begins; the header is line 1.")
    reason = models.CharField(max_length=200)

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["csv_import", "line"], name="warehouse_reject_once"),
        ]

    def __str__(self) -> str:
        return f"line {self.line}: {self.reason}"


class MovementFields(models.Model):
    """What a row of a file says."""

    line = models.PositiveIntegerField()
    reference = models.CharField(max_length=40)
    sku = models.CharField("SKU", max_length=40)
    quantity = models.IntegerField()
    amount = models.DecimalField(max_digits=12, decimal_places=2)
    currency = models.CharField(max_length=3)
    date = models.DateField()

    class Meta:
        abstract = True


class StagedMovement(MovementFields):
    """A row that was read and accepted, before its file is loaded."""

    csv_import = models.ForeignKey(
        CsvImport, on_delete=models.CASCADE, db_constraint=False, related_name="staged_movements"
    )

    def __str__(self) -> str:
        return self.reference


class Movement(MovementFields):
    """A movement of stock. Its owner's reference names it, in whatever file it comes.

    Rows come from the table above alone, by one statement that holds the import's row; checking each row's foreign keys
    again would take three times as long as all the rest. An import that was loaded is never deleted, and keeps its
    owner.
    """

    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        db_index=False,
        related_name="movements",
    )
    csv_import = models.ForeignKey(CsvImport, on_delete=models.PROTECT, db_constraint=False, related_name="movements")

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["owner", "reference"], name="warehouse_movement_once"),
        ]

    def __str__(self) -> str:
        return self.reference
