"""Paths under /api/users/."""

from django.urls import path

from apps.users.api import UsersView

urlpatterns = [path("", UsersView.as_view(), name="users")]
