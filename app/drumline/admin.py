"""Read-only views of what Drumline wrote itself."""

from django.contrib import admin
from django.http import HttpRequest

from drumline.models import CodeScheduleEntry, Heartbeat


class ReadOnlyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # the class is not generic at run time
    """Rows that only the software writes."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody adds one by hand."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        """Nobody changes one by hand."""
        return False


@admin.register(Heartbeat)
class HeartbeatAdmin(ReadOnlyAdmin):
    """Who is alive."""

    list_display = ("name", "host", "pid", "at")


@admin.register(CodeScheduleEntry)
class CodeScheduleEntryAdmin(ReadOnlyAdmin):
    """Which periodic tasks the code owns."""

    list_display = ("periodic_task",)

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        """Keep the mark: without it the entry would belong to nobody."""
        return False
