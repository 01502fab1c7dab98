"""Reports in the administration: to look at, and to delete."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.db.models.functions import Length
from django.http import HttpRequest

from apps.reports import selectors
from apps.reports.models import Report, ReportFile
from drumline.admin import ReadOnlyAdmin


@admin.register(Report)
class ReportAdmin(ReadOnlyAdmin):
    """Who asked for what, and how far it is."""

    list_display = ("user", "last_day", "pages", "pages_done", "state", "requested_at", "finished_at")
    list_filter = (("finished_at", admin.EmptyFieldListFilter), "requested_at")
    list_select_related = ("user",)
    ordering = ("-pk",)
    readonly_fields = ("state", "task_id")
    search_fields = ("user__email",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Look up how the tasks fare."""
        return selectors.reports().order_by(*self.ordering)

    @admin.display
    def state(self, report: Any) -> str:
        """Return where it stands."""
        return str(report.state)


@admin.register(ReportFile)
class ReportFileAdmin(ReadOnlyAdmin):
    """How large the files are; their bytes are for the people who asked for them."""

    list_display = ("report", "size", "sha256")
    list_select_related = ("report",)
    fields = ("report", "size", "sha256")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Leave the bytes where they are."""
        files: QuerySet[Any] = super().get_queryset(request).defer("content").annotate(size=Length("content"))
        return files

    @admin.display(description="bytes")
    def size(self, file: Any) -> int:
        """Return how many there are."""
        return int(file.size)
