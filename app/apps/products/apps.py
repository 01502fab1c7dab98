"""Products: what the shop sells, and how much of it there is."""

from django.apps import AppConfig


class ProductsConfig(AppConfig):
    """A catalogue whose stock is copied from the supplier."""

    name = "apps.products"
