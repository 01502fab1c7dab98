"""Payments: what customers were charged."""

from django.apps import AppConfig


class PaymentsConfig(AppConfig):
    """Charges through the payment provider, and those that a person must look at."""

    name = "apps.payments"
