"""The policy for missed runs, on the page where a periodic task is edited."""

from django.contrib import admin
from django_celery_beat.admin import PeriodicTaskAdmin

from drumline.models import MissedRuns


class MissedRunsInline(admin.StackedInline):  # type: ignore[type-arg]  # the class is not generic at run time
    """One choice; without a row it is `once`."""

    model = MissedRuns
    extra = 0


PeriodicTaskAdmin.inlines = [*PeriodicTaskAdmin.inlines, MissedRunsInline]
