"""Reports: documents that take a while."""

from django.apps import AppConfig


class ReportsConfig(AppConfig):
    """PDF files that people ask for and fetch later."""

    name = "apps.reports"
