"""The CRM's copies in the administration."""

from django.contrib import admin

from apps.crm.models import Contact


@admin.register(Contact)
class ContactAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # the class is not generic at run time
    """Who is in the CRM, and whom it refused."""

    list_display = ("user", "external_id", "synced_at", "refusal")
    list_filter = (("refusal", admin.EmptyFieldListFilter),)
    list_select_related = ("user",)
    raw_id_fields = ("user",)
    readonly_fields = ("external_id", "synced_at", "refusal")
    search_fields = ("user__email", "external_id")
