"""Paths under /api/reports/."""

from django.urls import path

from apps.reports.api import ReportFileView, ReportsView, ReportView

urlpatterns = [
    path("", ReportsView.as_view(), name="reports"),
    path("<int:report_id>/", ReportView.as_view(), name="report"),
    path("<int:report_id>/file/", ReportFileView.as_view(), name="report-file"),
]
