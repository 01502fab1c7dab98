"""What was sent to whom, and what will be."""

from typing import ClassVar

from django.conf import settings
from django.db import models


class Delivery(models.Model):
    """Something that is sent once: claimed by the worker that sends it, and then sent."""

    requested_at = models.DateTimeField(auto_now_add=True)
    claimed_at = models.DateTimeField(null=True, blank=True)
    sent_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        abstract = True


class Email(Delivery):
    """An e-mail that every user gets once, or once a week or a day."""

    class Kind(models.TextChoices):
        """The e-mails there are."""

        WELCOME = "welcome"
        DIGEST = "digest"
        VERIFICATION = "verification"

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="emails")
    kind = models.CharField(max_length=40, choices=Kind)
    # The Monday of a digest's week, the day of a verification; empty where there is only one.
    week = models.CharField(max_length=10, blank=True, default="", db_default="")

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["user", "kind", "week"], name="notifications_email_once"),
        ]

    def __str__(self) -> str:
        return " ".join(filter(None, (self.kind, self.week, "to", str(self.user_id))))


class Reminder(Delivery):
    """An e-mail that a user has asked for, at a time of their choice."""

    class Status(models.TextChoices):
        """Where it stands."""

        SCHEDULED = "scheduled"
        SENT = "sent"
        CANCELLED = "cancelled"

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="reminders")
    text = models.CharField(max_length=1000)
    due_at = models.DateTimeField()
    cancelled_at = models.DateTimeField(null=True, blank=True)
    # The durable task that sends it.
    task_id = models.UUIDField(unique=True)

    class Meta:
        indexes = (models.Index(fields=["user", "due_at"], name="notifications_reminder_due"),)

    def __str__(self) -> str:
        return f"{self.status} for {self.user_id} at {self.due_at:%Y-%m-%d %H:%M}"

    @property
    def status(self) -> Status:
        """Return where it stands; one that is being sent now is still scheduled."""
        if self.cancelled_at:
            return self.Status.CANCELLED
        return self.Status.SENT if self.sent_at else self.Status.SCHEDULED
