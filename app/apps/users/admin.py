"""Users in the administration."""

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin as StockUserAdmin

from apps.users.models import User


@admin.register(User)
class UserAdmin(StockUserAdmin):  # type: ignore[type-arg]  # the class is not generic at run time
    """Django's own user pages, with the e-mail in the place of a user name."""

    ordering = ("email",)
    list_display = ("email", "full_name", "is_staff", "is_active", "created_at")
    list_filter = ("is_staff", "is_superuser", "is_active")
    search_fields = ("email", "full_name")
    readonly_fields = ("last_login", "created_at")
    fieldsets = (
        (None, {"fields": ("email", "password", "full_name", "weekly_digest")}),
        ("Permissions", {"fields": ("is_active", "is_staff", "is_superuser", "groups", "user_permissions")}),
        ("Dates", {"fields": ("last_login", "created_at")}),
    )
    add_fieldsets = ((None, {"fields": ("email", "usable_password", "password1", "password2")}),)
