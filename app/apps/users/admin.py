"""Users in the administration."""

from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin as StockUserAdmin
from django.http import HttpRequest
from django.utils import timezone

from apps.users.models import User


@admin.register(User)
class UserAdmin(StockUserAdmin):  # type: ignore[type-arg]  # the class is not generic at run time
    """Django's own user pages, with the e-mail in the place of a user name."""

    ordering = ("email",)
    list_display = ("email", "full_name", "is_staff", "is_active", "email_verified_at", "created_at")
    list_filter = ("is_staff", "is_superuser", "is_active", ("email_verified_at", admin.EmptyFieldListFilter))
    search_fields = ("email", "full_name")
    readonly_fields = ("last_login", "created_at")
    fieldsets = (
        (None, {"fields": ("email", "email_verified_at", "password", "full_name", "weekly_digest")}),
        ("Permissions", {"fields": ("is_active", "is_staff", "is_superuser", "groups", "user_permissions")}),
        ("Dates", {"fields": ("last_login", "created_at")}),
    )
    add_fieldsets = ((None, {"fields": ("email", "usable_password", "password1", "password2")}),)

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:  # noqa: FBT001  Django's hook
        """Take the address of an account that staff adds for proved."""
        if not change:
            obj.email_verified_at = timezone.now()
        super().save_model(request, obj, form, change)
