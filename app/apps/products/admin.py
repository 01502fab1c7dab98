"""The catalogue in the administration."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from apps.products.models import InventorySync, Product
from drumline.admin import ReadOnlyAdmin


@admin.register(Product)
class ProductAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # the class is not generic at run time
    """What is for sale. The stock is the supplier's to say, once there is one."""

    list_display = ("sku", "name", "price_text", "stock", "reserved", "synced_at")
    list_filter = ("currency",)
    readonly_fields = ("reserved", "synced_at")
    search_fields = ("sku", "name")

    def save_model(self, request: HttpRequest, obj: Product, form: Any, change: bool) -> None:  # noqa: FBT001  Django's
        """Write what was changed, and not the stock of the moment when the page was opened."""
        obj.save(update_fields=form.changed_data if change else None)


@admin.register(InventorySync)
class InventorySyncAdmin(ReadOnlyAdmin):
    """How far the stock is copied, and whether a sync is at work."""

    list_display = ("__str__", "finished_at", "cursor", "holder", "held_until")
