"""The base of admin pages whose rows only Drumline writes."""

from typing import Any

from django.contrib import admin
from django.core.paginator import Paginator
from django.http import HttpRequest
from django.utils.functional import cached_property


class ReadOnlyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # the class is not generic at run time
    """Rows that only Drumline writes."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Forbid adding rows by hand."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        """Forbid changing rows by hand."""
        return False


class BoundedPaginator(Paginator):  # type: ignore[type-arg]
    """Counts only up to a limit, so that ten million rows are not counted to show fifty."""

    LIMIT = 5000

    @cached_property
    def count(self) -> int:
        """Return the number of rows, or the limit."""
        rows: Any = self.object_list
        return int(rows.order_by().values("pk")[: self.LIMIT].count())
