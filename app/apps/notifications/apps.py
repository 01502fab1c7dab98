"""Notifications: what people are told, and when it was."""

from django.apps import AppConfig


class NotificationsConfig(AppConfig):
    """E-mails that are sent once."""

    name = "apps.notifications"
