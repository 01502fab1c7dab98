"""The administration's sign-in: a password, and a one-time code from who has a device for one or must have one."""

from typing import Any

from django import forms
from django.conf import settings
from django.contrib.admin import AdminSite
from django.contrib.admin.forms import AdminAuthenticationForm
from django.contrib.auth.signals import user_login_failed
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from django_otp import devices_for_user, user_has_device
from django_otp.forms import OTPAuthenticationFormMixin

REQUIRED = "required"


def is_needed(user: Any) -> bool:
    """Return whether this person must give a code: all of the staff must where the setting says so."""
    return settings.ADMIN_SECOND_FACTOR == REQUIRED or user_has_device(user)


class StaffLoginForm(OTPAuthenticationFormMixin, AdminAuthenticationForm):  # type: ignore[misc]  # no types
    """Asks for the code together with the password."""

    otp_device = forms.CharField(required=False, widget=forms.Select)
    otp_token = forms.CharField(required=False, widget=forms.TextInput(attrs={"autocomplete": "one-time-code"}))
    otp_challenge = forms.CharField(required=False)

    def clean(self) -> dict[str, Any]:
        """Check the password, then the code. A wrong code is a failed sign-in."""
        cleaned: dict[str, Any] = super().clean()
        user: Any = self.get_user()
        if user is None or not is_needed(user):
            return cleaned
        if not user_has_device(user):
            raise ValidationError(
                "A second factor is required. Ask an administrator to run `drumline-manage second_factor`."
            )
        try:
            self.clean_otp(user)
        except ValidationError as error:
            if error.code == "invalid_token":
                credentials = {"username": user.get_username()}
                user_login_failed.send(sender=__name__, credentials=credentials, request=self.request)
            raise
        return cleaned

    def _chosen_device(self, user: Any) -> Any:
        """Choose for a person who has one device alone."""
        devices = list(devices_for_user(user))
        return super()._chosen_device(user) or (devices[0] if len(devices) == 1 else None)


class StaffSite(AdminSite):
    """The administration. /ops/ and Flower ask it who may enter, too."""

    login_form = StaffLoginForm
    login_template = "otp/admin111/login.html"

    def has_permission(self, request: HttpRequest) -> bool:
        """Return whether the session is of active staff, and has given a code where one is needed."""
        if not super().has_permission(request):
            return False
        user: Any = request.user
        return bool(user.is_verified() or not is_needed(user))
