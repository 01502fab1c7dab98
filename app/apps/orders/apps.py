"""Orders: who bought what, and how far it is."""

from django.apps import AppConfig


class OrdersConfig(AppConfig):
    """From the basket to the parcel."""

    name = "apps.orders"
