"""The warehouse in the administration: to look at, since the software alone writes it, and to resume what stopped."""

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from apps.warehouse.models import (
    CsvChunk,
    CsvImport,
    CsvPiece,
    DailyFigure,
    DailyRun,
    Movement,
    RejectedRow,
    StagedEvent,
    StagedMovement,
)
from apps.warehouse.services import daily
from drumline.admin import BoundedPaginator, ReadOnlyAdmin


class WarehouseAdmin(ReadOnlyAdmin):
    """Rows by the million, which are shown and neither counted to the last nor deleted by hand."""

    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    paginator = BoundedPaginator
    list_per_page = 50

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        """Keep what was loaded and where it came from."""
        return False


@admin.register(DailyRun)
class DailyRunAdmin(WarehouseAdmin):
    """Where each day's figures stand. Resuming needs the permission to change daily runs."""

    list_display = ("date", "state", "step", "error", "started_at", "ended_at")
    list_filter = ("state", "step")
    ordering = ("-date",)
    actions = ("resume",)

    def has_operate_permission(self, request: HttpRequest) -> bool:
        """Whoever may change a run may resume it."""
        return bool(request.user.has_perm("warehouse.change_dailyrun"))

    @admin.action(description="Resume at the failed step", permissions=["operate"])
    def resume(self, request: HttpRequest, rows: QuerySet[DailyRun]) -> None:
        """Go on where each of them stopped."""
        for run in rows:
            try:
                daily.run_resume(run_id=run.pk)
            except daily.RunDoneError as error:
                self.message_user(request, str(error), messages.WARNING)
            else:
                self.message_user(request, f"The run of {run.date} resumes with {run.step}.")


@admin.register(StagedEvent)
class StagedEventAdmin(WarehouseAdmin):
    """What a run has fetched and not loaded yet."""

    list_display = ("run", "measure", "at")
    list_select_related = ("run",)


@admin.register(DailyFigure)
class DailyFigureAdmin(WarehouseAdmin):
    """The figures."""

    list_display = ("date", "hour", "measure", "value")
    list_filter = ("measure", "date")
    ordering = ("-date", "measure", "hour")


@admin.register(CsvImport)
class CsvImportAdmin(WarehouseAdmin):
    """Who imports what, and why it failed."""

    list_display = ("id", "owner", "state", "size", "chunk_count", "loaded", "duplicates", "error", "received_at")
    list_filter = ("state",)
    list_select_related = ("owner",)
    ordering = ("-pk",)
    search_fields = ("owner__email",)


@admin.register(CsvPiece)
class CsvPieceAdmin(WarehouseAdmin):
    """The uploads that are not loaded yet, without their bytes."""

    list_display = ("csv_import", "start", "end")
    exclude = ("data",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[CsvPiece]:
        """Leave the bytes in the database."""
        pieces: QuerySet[CsvPiece] = super().get_queryset(request)
        return pieces.defer("data")


@admin.register(CsvChunk)
class CsvChunkAdmin(WarehouseAdmin):
    """What one task reads."""

    list_display = ("csv_import", "number", "first_line", "staged", "rejected", "done_at", "error")
    list_filter = (("error", admin.EmptyFieldListFilter),)
    ordering = ("-csv_import", "number")
    search_fields = ("=csv_import__id",)


@admin.register(RejectedRow)
class RejectedRowAdmin(WarehouseAdmin):
    """Why a row was refused."""

    list_display = ("csv_import", "line", "reason")
    ordering = ("-csv_import", "line")
    search_fields = ("=csv_import__id",)


@admin.register(StagedMovement)
class StagedMovementAdmin(WarehouseAdmin):
    """Rows that are read, and not loaded yet."""

    list_display = ("csv_import", "line", "reference", "sku", "quantity", "amount", "currency", "date")
    search_fields = ("=csv_import__id",)


@admin.register(Movement)
class MovementAdmin(WarehouseAdmin):
    """What is loaded, with the import and the line that it came from."""

    list_display = ("reference", "sku", "quantity", "amount", "currency", "date", "owner", "csv_import", "line")
    list_select_related = ("owner",)
    search_fields = ("=reference",)
