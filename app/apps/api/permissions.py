"""What a view may ask of its caller beyond an account."""

from typing import Any

from django.contrib import admin
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request


class StaffMay(BasePermission):
    """Lets in who may open the administration and has the permission that the view names in `permission`."""

    def has_permission(self, request: Request, view: Any) -> bool:
        """Return whether the caller has both."""
        entered = admin.site.has_permission(request._request)  # noqa: SLF001  Django's own function takes Django's request
        return entered and request.user.has_perm(view.permission)


class EmailVerified(BasePermission):
    """Lets an account whose address nobody has proved look, and change nothing: for what sends e-mails."""

    message = "Confirm your e-mail address first: the link is in the e-mail that you got when you signed up."
    code = "email_not_verified"

    def has_permission(self, request: Request, view: Any) -> bool:
        """Return whether the address is proved, where something is to be changed."""
        return request.method in SAFE_METHODS or getattr(request.user, "email_verified_at", None) is not None
