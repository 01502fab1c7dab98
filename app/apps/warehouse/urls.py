"""Paths under /api/imports/."""

from django.urls import path

from apps.warehouse.api import ImportsView, ImportView

urlpatterns = [
    path("", ImportsView.as_view(), name="imports"),
    path("<int:pk>/", ImportView.as_view(), name="import"),
]
