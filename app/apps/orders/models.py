"""What customers ordered."""

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q

from apps.products.models import Product
from apps.products.money import CURRENCIES, LARGEST, SMALLEST, money_text

# Of one product in one order.
MOST = 1000


class Order(models.Model):
    """So many of one product, for the price that the customer agreed to.

    pending -> paying -> charging -> paid -> shipped, and from paying or charging to failed, from where it may be paid
    again. Every step is a conditional write on the status, in `orders.services`.
    """

    class Status(models.TextChoices):
        """How far it is."""

        PENDING = "pending"
        # The customer wants to pay; nothing was done yet.
        PAYING = "paying"
        # The stock is taken and the card is being charged, or a person must find out whether it was.
        CHARGING = "charging"
        PAID = "paid"
        SHIPPED = "shipped"
        FAILED = "failed"

    class Failure(models.TextChoices):
        """Why it failed, as far as the customer is told."""

        DECLINED = "declined", "the card was declined"
        SOLD_OUT = "sold_out", "there are not as many left"

    customer = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="orders")
    product = models.ForeignKey(Product, on_delete=models.PROTECT, related_name="orders")
    quantity = models.IntegerField()
    # In the currency's smallest unit.
    total = models.BigIntegerField()
    currency = models.CharField(max_length=3, choices=[(code, code) for code in CURRENCIES])
    status = models.CharField(max_length=10, choices=Status, default=Status.PENDING)
    failure = models.CharField(max_length=10, choices=Failure, blank=True)
    # The provider's id of what the customer pays with; never a card's number.
    payment_method = models.CharField(max_length=100, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    paid_at = models.DateTimeField(null=True, blank=True)
    shipped_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        permissions = (("ship_order", "Can mark orders as shipped"),)
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(condition=Q(quantity__range=(1, MOST)), name="orders_quantity_in_bounds"),
            models.CheckConstraint(condition=Q(total__range=(SMALLEST, LARGEST)), name="orders_total_in_bounds"),
        ]

    def __str__(self) -> str:
        return f"order {self.pk}"

    @property
    def total_text(self) -> str:
        """The total as people write it."""
        return money_text(self.total, self.currency)
