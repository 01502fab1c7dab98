"""What customers were charged."""

import uuid

from django.db import models

from apps.products.money import CURRENCIES, money_text


class Payment(models.Model):
    """One charge for an order; a card that was declined and then another one are two."""

    class Status(models.TextChoices):
        """What is known of it."""

        PENDING = "pending"
        CHARGED = "charged"
        DECLINED = "declined"
        # The provider did not say, so it may have been charged.
        UNKNOWN = "unknown"

    order = models.ForeignKey("orders.Order", on_delete=models.PROTECT, related_name="payments")
    # In the currency's smallest unit.
    amount = models.BigIntegerField()
    currency = models.CharField(max_length=3, choices=[(code, code) for code in CURRENCIES])
    payment_method = models.CharField(max_length=100)
    # Under which the provider knows it. It is chosen before the provider is asked, so that asking again is no second
    # charge; and random, so that it means the same charge to a provider's account that a copy of this database uses.
    key = models.UUIDField(default=uuid.uuid4, unique=True)
    status = models.CharField(max_length=10, choices=Status, default=Status.PENDING)
    # The provider's own id.
    external_id = models.CharField(max_length=100, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    charged_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"payment {self.pk}: {self.amount_text}"

    @property
    def amount_text(self) -> str:
        """The amount as people write it."""
        return f"{money_text(self.amount, self.currency)} {self.currency}"


class FailedCharge(models.Model):
    """A payment that a person must look at."""

    class Reason(models.TextChoices):
        """What the person must know first."""

        DECLINED = "declined", "declined: nothing was charged"
        UNKNOWN = "unknown", "unknown: the provider did not say whether it was charged"

    payment = models.ForeignKey(Payment, on_delete=models.PROTECT, related_name="failures")
    reason = models.CharField(max_length=10, choices=Reason)
    # The provider's words, without what looks like a card's number or a secret.
    error = models.CharField(max_length=500)
    created_at = models.DateTimeField(auto_now_add=True)
    requeued_at = models.DateTimeField(null=True, blank=True)
    requeued_by = models.CharField(max_length=254, blank=True)

    def __str__(self) -> str:
        return f"{self.reason}: payment {self.payment_id}"
