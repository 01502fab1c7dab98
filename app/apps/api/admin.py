"""The API's counts in the administration, to look at."""

from django.contrib import admin

from apps.api.models import RequestCount
from drumline.admin import BoundedPaginator, ReadOnlyAdmin


@admin.register(RequestCount)
class RequestCountAdmin(ReadOnlyAdmin):
    """Who asks how often. Deleting a row lets the caller in again."""

    list_display = ("key", "number", "ends_at")
    ordering = ("-ends_at",)
    search_fields = ("=key",)
    show_full_result_count = False
    paginator = BoundedPaginator
