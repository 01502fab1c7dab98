"""Paths under /ops/."""

from django.urls import path

from drumline.operations import views

app_name = "operations"
urlpatterns = [path("auth", views.auth, name="auth")]
