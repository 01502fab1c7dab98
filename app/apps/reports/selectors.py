"""Reading reports, and what they are made of."""

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any

from django.db.models import Case, CharField, OuterRef, Q, QuerySet, Subquery, Value, When
from django.utils import timezone

from apps.notifications.models import Email
from apps.reports.models import Report
from apps.users.models import User
from drumline.models import DurableTask

State = Report.State


def reports() -> QuerySet[Any]:
    """Return the reports with `state`, and with `task_error` where it is failed: one statement, so one moment."""
    task = DurableTask.objects.filter(id=OuterRef("task_id"))
    return Report.objects.annotate(
        task_state=Subquery(task.values("state")),
        task_error=Subquery(task.values("error")),
        state=Case(
            When(finished_at__isnull=False, then=Value(State.READY)),
            When(task_state=DurableTask.State.QUEUED, then=Value(State.QUEUED)),
            When(task_state=DurableTask.State.RUNNING, then=Value(State.RUNNING)),
            default=Value(State.FAILED),
            output_field=CharField(),
        ),
    )


def reports_of(*, user_id: int) -> QuerySet[Any]:
    """Return what a person asked for, latest first."""
    return reports().filter(user_id=user_id).order_by("-pk")


@dataclass(frozen=True, slots=True, order=True)
class Event:
    """Something that happened to an account, at the site's time."""

    at: datetime
    what: str


def events_of_day(*, user: User, day: date) -> list[Event]:
    """Return what happened to an account on one day of the site's time zone, in order."""
    since, until = _midnight(day), _midnight(day + timedelta(days=1))
    that_day = (since, until - timedelta.resolution)
    moments: list[tuple[datetime | None, str]] = [(user.created_at, "Account opened")]
    emails = Email.objects.filter(user=user).filter(Q(requested_at__range=that_day) | Q(sent_at__range=that_day))
    for email in emails:
        moments += [
            (email.requested_at, f"{email.get_kind_display()} e-mail requested"),
            (email.sent_at, f"{email.get_kind_display()} e-mail sent"),
        ]
    asked = Report.objects.filter(user=user).filter(Q(requested_at__range=that_day) | Q(finished_at__range=that_day))
    for report in asked:
        moments += [(report.requested_at, "Report requested"), (report.finished_at, "Report finished")]
    return sorted(Event(timezone.localtime(at), what) for at, what in moments if at and since <= at < until)


def _midnight(day: date) -> datetime:
    return timezone.make_aware(datetime.combine(day, time()))
