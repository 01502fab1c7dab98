"""E-mails and reminders in the administration."""

from django.contrib import admin
from django.http import HttpRequest

from apps.notifications.models import Email, Reminder


@admin.register(Email)
class EmailAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # the class is not generic at run time
    """Who was told what, and when."""

    list_display = ("user", "kind", "week", "requested_at", "sent_at")
    list_filter = ("kind",)
    list_select_related = ("user",)
    raw_id_fields = ("user",)
    readonly_fields = ("requested_at", "claimed_at", "sent_at")
    search_fields = ("user__email",)


@admin.register(Reminder)
class ReminderAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Who is reminded when. Their text is theirs, and a change of the time would not move the task."""

    list_display = ("user", "due_at", "status", "sent_at", "cancelled_at")
    list_filter = (("sent_at", admin.EmptyFieldListFilter), ("cancelled_at", admin.EmptyFieldListFilter), "due_at")
    list_select_related = ("user",)
    search_fields = ("user__email",)
    exclude = ("text",)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody adds one by hand: it would have no task."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        """Nobody changes one by hand."""
        return False
