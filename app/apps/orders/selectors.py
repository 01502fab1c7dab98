"""Reading orders."""

from django.db.models import QuerySet

from apps.orders.models import Order
from apps.users.models import User


def orders_of(*, customer: User) -> QuerySet[Order]:
    """Return the customer's own orders, newest first."""
    return Order.objects.filter(customer=customer).select_related("product").order_by("-pk")
