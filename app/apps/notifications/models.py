"""What was sent to whom."""

from typing import ClassVar

from django.conf import settings
from django.db import models


class Email(models.Model):
    """One e-mail that a user gets once: claimed by the worker that sends it, and then sent."""

    class Kind(models.TextChoices):
        """The e-mails there are."""

        WELCOME = "welcome"

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="emails")
    kind = models.CharField(max_length=40, choices=Kind)
    requested_at = models.DateTimeField(auto_now_add=True)
    claimed_at = models.DateTimeField(null=True, blank=True)
    sent_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["user", "kind"], name="notifications_email_once"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} to {self.user_id}"
