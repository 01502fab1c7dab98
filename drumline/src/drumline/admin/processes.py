"""The pages of workers, and of beats and relays."""

from collections.abc import Iterable
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from drumline.admin.read_only import ReadOnlyAdmin
from drumline.models import Heartbeat, Worker


class AliveFilter(admin.SimpleListFilter):
    """Filters by status. The row of a stopped worker is kept as long as finished tasks."""

    title = "status"
    parameter_name = "status"

    def lookups(self, _request: HttpRequest, _model_admin: Any) -> Iterable[tuple[str, str]]:
        """Return the choices."""
        return [("running", "Running"), ("stopped", "Stopped")]

    def queryset(self, _request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Filter."""
        return queryset.filter(stopped_at__isnull=self.value() == "running") if self.value() else queryset


@admin.register(Worker)
class WorkerAdmin(ReadOnlyAdmin):
    """Workers, running and stopped."""

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
        """Forbid deletion: the row tells the relay that the worker is alive."""
        return False


@admin.register(Heartbeat)
class HeartbeatAdmin(ReadOnlyAdmin):
    """Heartbeats of beats and relays."""

    list_display = ("name", "host", "pid", "at")
