"""Paths under /ops/."""

from django.urls import path

from drumline.web import staff

app_name = "operations"
urlpatterns = [path("auth", staff.auth, name="auth")]
