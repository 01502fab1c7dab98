"""Sent e-mails in the administration."""

from django.contrib import admin

from apps.notifications.models import Email


@admin.register(Email)
class EmailAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # the class is not generic at run time
    """Who was told what, and when."""

    list_display = ("user", "kind", "requested_at", "sent_at")
    list_filter = ("kind",)
    list_select_related = ("user",)
    raw_id_fields = ("user",)
    readonly_fields = ("requested_at", "claimed_at", "sent_at")
    search_fields = ("user__email",)
