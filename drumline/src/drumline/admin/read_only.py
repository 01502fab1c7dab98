"""What every page of rows that only the software writes has in common."""

from typing import Any

from django.contrib import admin
from django.core.paginator import Paginator
from django.http import HttpRequest
from django.utils.functional import cached_property


class ReadOnlyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # the class is not generic at run time
    """Rows that only the software writes."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody adds one by hand."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        """Nobody changes one by hand."""
        return False


class BoundedPaginator(Paginator):  # type: ignore[type-arg]
    """Counts no further than anyone turns pages: ten million rows are not counted for each look at fifty."""

    LIMIT = 5000

    @cached_property
    def count(self) -> int:
        """Return the number of rows, or the limit."""
        rows: Any = self.object_list
        return int(rows.order_by().values("pk")[: self.LIMIT].count())
