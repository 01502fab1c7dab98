"""Orders in the administration."""

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from apps.orders import services
from apps.orders.models import Order
from drumline.admin import ReadOnlyAdmin


@admin.register(Order)
class OrderAdmin(ReadOnlyAdmin):
    """Who ordered what. Shipping needs the permission to ship orders; nobody sets a status by hand."""

    list_display = (
        "id",
        "customer",
        "product",
        "quantity",
        "total_text",
        "currency",
        "status",
        "failure",
        "created_at",
    )
    list_filter = ("status", "failure", "created_at")
    list_select_related = ("customer", "product")
    search_fields = ("customer__email", "product__sku")
    actions = ("ship",)

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        """Keep the row: orders stay in the books."""
        return False

    def has_ship_permission(self, request: HttpRequest) -> bool:
        """Return whether the account has the permission of its own for this."""
        return bool(request.user.has_perm("orders.ship_order"))

    @admin.action(description="Mark as shipped", permissions=["ship"])
    def ship(self, request: HttpRequest, rows: QuerySet[Order]) -> None:
        """Have them marked that are paid."""
        ids = list(rows.values_list("pk", flat=True))
        done = sum(services.order_ship_request(order_id=pk) for pk in ids)
        rest = f"; {len(ids) - done} are not paid, or shipped already" if done < len(ids) else ""
        self.message_user(
            request, f"{done} of {len(ids)} are being shipped{rest}.", messages.WARNING if rest else messages.SUCCESS
        )
