"""What is for sale, and how the stock is copied."""

from typing import ClassVar

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q

from apps.products.money import CURRENCIES, LARGEST, SMALLEST, money_text


class Product(models.Model):
    """Something for sale that the supplier keeps for us.

    `stock` can still be sold; `reserved` is sold and has not left the supplier's shelf. What the supplier counts is
    both together.
    """

    sku = models.CharField(max_length=64, unique=True)
    name = models.CharField(max_length=200)
    price = models.BigIntegerField(
        validators=[MinValueValidator(SMALLEST), MaxValueValidator(LARGEST)],
        help_text="In the currency's smallest unit: 1999 is 19.99 EUR.",
    )
    currency = models.CharField(max_length=3, choices=[(code, code) for code in CURRENCIES])
    stock = models.IntegerField(default=0, validators=[MinValueValidator(0)])
    reserved = models.IntegerField(default=0, editable=False)
    # When the last sync began that found it at the supplier's.
    synced_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(condition=Q(price__range=(SMALLEST, LARGEST)), name="products_price_in_bounds"),
            models.CheckConstraint(condition=Q(stock__gte=0), name="products_stock_not_negative"),
            models.CheckConstraint(condition=Q(reserved__gte=0), name="products_reserved_not_negative"),
        ]

    def __str__(self) -> str:
        return f"{self.sku} {self.name}"

    @property
    def price_text(self) -> str:
        """The price as people write it."""
        return f"{money_text(self.price, self.currency)} {self.currency}"


class InventorySync(models.Model):
    """The one row that a sync of the stock holds while it works, and where the last one ended."""

    # Who holds it, and until when that is believed.
    holder = models.UUIDField(null=True)
    held_until = models.DateTimeField(null=True)
    # The supplier's own mark of how far its changes were read; empty is from the beginning.
    cursor = models.CharField(max_length=200, blank=True)
    finished_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return "inventory"
