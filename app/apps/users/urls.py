"""Paths under /api/users/."""

from django.urls import path

from apps.users.api import UsersView, VerificationEmailView, VerifyView

urlpatterns = [
    path("", UsersView.as_view(), name="users"),
    path("verify/", VerifyView.as_view(), name="users-verify"),
    path("verification-email/", VerificationEmailView.as_view(), name="users-verification-email"),
]
