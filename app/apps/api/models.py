"""What the API remembers of its callers."""

from django.db import models


class RequestCount(models.Model):
    """How many requests of one kind a caller has made since a window began; its next window is written over it.

    On PostgreSQL the table is unlogged, which spares each request a write to the disk. A crash of the database empties it.
    """

    key = models.CharField(max_length=200, primary_key=True, help_text="The kind of request and the caller.")
    number = models.PositiveIntegerField()
    ends_at = models.DateTimeField(db_index=True, help_text="When the next window may begin.")

    def __str__(self) -> str:
        return f"{self.number} of {self.key}"
