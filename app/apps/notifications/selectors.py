"""Reading notifications."""

from datetime import date, datetime, time, timedelta

from django.db.models import QuerySet
from django.utils import timezone

from apps.notifications.models import Reminder
from apps.users.models import User


def monday_of(day: date) -> date:
    """Return the first day of that day's week."""
    return day - timedelta(days=day.weekday())


def reminders_of(*, user: User) -> QuerySet[Reminder]:
    """Return a user's reminders, the latest first."""
    return Reminder.objects.filter(user=user).order_by("-due_at", "-pk")


def reminders_of_week(*, user: User, monday: date) -> QuerySet[Reminder]:
    """Return what a user is reminded of from that day on for a week, by the site's clock."""
    start, end = (timezone.make_aware(datetime.combine(day, time.min)) for day in (monday, monday + timedelta(days=7)))
    rows = Reminder.objects.filter(user=user, cancelled_at=None, due_at__gte=start, due_at__lt=end)
    return rows.order_by("due_at", "pk")
