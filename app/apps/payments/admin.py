"""Payments in the administration, and the failed ones that a person decides on."""

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from apps.payments import services
from apps.payments.models import FailedCharge, Payment
from drumline.admin import ReadOnlyAdmin


@admin.register(Payment)
class PaymentAdmin(ReadOnlyAdmin):
    """What was charged."""

    list_display = ("id", "order", "amount_text", "status", "created_at", "charged_at", "external_id")
    list_filter = ("status",)
    list_select_related = ("order",)
    search_fields = ("external_id", "order__customer__email")

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        """Keep the row: what was charged stays in the books."""
        return False


@admin.register(FailedCharge)
class FailedChargeAdmin(ReadOnlyAdmin):
    """Charges that a person must look at. Requeueing needs the permission to change them."""

    list_display = ("payment", "reason", "error", "payment_status", "created_at", "requeued_at", "requeued_by")
    list_filter = ("reason", ("requeued_at", admin.EmptyFieldListFilter))
    list_select_related = ("payment",)
    actions = ("requeue",)

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        """Keep the row: it says who decided what."""
        return False

    def has_requeue_permission(self, request: HttpRequest) -> bool:
        """Whoever may change a failed charge may requeue it."""
        return bool(request.user.has_perm("payments.change_failedcharge"))

    @admin.display
    def payment_status(self, failed: FailedCharge) -> str:
        """Return what is known by now."""
        return failed.payment.status

    @admin.action(description="Requeue: try to charge again", permissions=["requeue"])
    def requeue(self, request: HttpRequest, rows: QuerySet[FailedCharge]) -> None:
        """Try them again, under the name of who did it."""
        by = request.user.get_username()
        ids = list(rows.values_list("pk", flat=True))
        done = sum(services.failed_charge_requeue(failed_charge_id=pk, by=by) for pk in ids)
        rest = f"; {len(ids) - done} need it no more" if done < len(ids) else ""
        self.message_user(
            request, f"{done} of {len(ids)} requeued{rest}.", messages.WARNING if rest else messages.SUCCESS
        )
