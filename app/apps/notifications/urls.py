"""Paths under /api/reminders/."""

from django.urls import path

from apps.notifications.api import RemindersView, ReminderView

urlpatterns = [
    path("", RemindersView.as_view(), name="reminders"),
    path("<int:pk>/", ReminderView.as_view(), name="reminder"),
]
