"""The pages of workers, and of beats and relays."""

from collections.abc import Iterable
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from drumline.admin.read_only import ReadOnlyAdmin
from drumline.models import Heartbeat, Worker


class AliveFilter(admin.SimpleListFilter):
    """A worker's row is one life; those that ended are kept as long as finished tasks."""

    title = "life"
    parameter_name = "life"

    def lookups(self, _request: HttpRequest, _model_admin: Any) -> Iterable[tuple[str, str]]:
        """Return the choices."""
        return [("on", "Goes on"), ("ended", "Ended")]

    def queryset(self, _request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Filter."""
        return queryset.filter(stopped_at__isnull=self.value() == "on") if self.value() else queryset


@admin.register(Worker)
class WorkerAdmin(ReadOnlyAdmin):
    """Who works, and who did."""

    list_display = (
        "name",
        "host",
        "pid",
        "queues",
        "running",
        "done",
        "started_at",
        "beat_at",
        "stopped_at",
        "trouble",
    )
    list_filter = (AliveFilter, "host")
    search_fields = ("name", "host")
    ordering = ("-beat_at",)

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        """Keep the row: by it the relay knows that a worker lives."""
        return False


@admin.register(Heartbeat)
class HeartbeatAdmin(ReadOnlyAdmin):
    """Which beats and relays are alive."""

    list_display = ("name", "host", "pid", "at")
