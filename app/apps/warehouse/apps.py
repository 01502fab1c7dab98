"""Warehouse: figures for those who count."""

from django.apps import AppConfig


class WarehouseConfig(AppConfig):
    """Bulk data: what is fetched daily, and what people import."""

    name = "apps.warehouse"
