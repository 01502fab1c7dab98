"""The pages of the schedule: django-celery-beat's, with everything checked before it is saved."""

from celery import Celery
from django.contrib import admin
from django.http import HttpRequest
from django_celery_beat import admin as beat_admin
from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask, SolarSchedule

from drumline.admin.read_only import ReadOnlyAdmin
from drumline.application import application
from drumline.beat.forms import CrontabForm, IntervalForm, PeriodicTaskForm, SolarForm
from drumline.beat.models import CodeScheduleEntry, MissedRuns


@admin.register(CodeScheduleEntry)
class CodeScheduleEntryAdmin(ReadOnlyAdmin):
    """Which periodic tasks the code owns."""

    list_display = ("periodic_task",)

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        """Keep the mark: without it the entry would belong to nobody."""
        return False


@admin.register(MissedRuns)
class MissedRunsAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Which periodic tasks have another policy for missed runs than `once`."""

    list_display = ("periodic_task", "policy")
    list_filter = ("policy",)


class MissedRunsInline(admin.StackedInline):  # type: ignore[type-arg]
    """The policy, on the page where a periodic task is edited; without a row it is `once`."""

    model = MissedRuns
    extra = 0


class PeriodicTaskAdmin(beat_admin.PeriodicTaskAdmin):  # type: ignore[misc]  # the library ships no types
    """The library's page, with everything checked before it is saved, and the policy for missed runs."""

    # The library's own holds a script, which a strict Content-Security-Policy refuses.
    change_form_template = "drumline_beat/change_periodic_task.html"
    form = PeriodicTaskForm
    inlines = (MissedRunsInline,)
    fieldsets = tuple(
        (
            name,
            {**options, "fields": [field for field in options["fields"] if field not in PeriodicTaskForm.Meta.exclude]},
        )
        for name, options in beat_admin.PeriodicTaskAdmin.fieldsets
    )

    @property
    def celery_app(self) -> Celery:
        """Return the application whose tasks "Run selected tasks" knows."""
        return application()


class CrontabScheduleAdmin(beat_admin.CrontabScheduleAdmin):  # type: ignore[misc]
    """The library's page, for crontabs that are due some day."""

    form = CrontabForm


class IntervalScheduleAdmin(beat_admin.IntervalScheduleAdmin):  # type: ignore[misc]
    """The library's page, for intervals that advance."""

    form = IntervalForm


class SolarScheduleAdmin(beat_admin.SolarScheduleAdmin):  # type: ignore[misc]
    """For events of the sun that can be computed."""

    form = SolarForm


for model, model_admin in (
    (PeriodicTask, PeriodicTaskAdmin),
    (CrontabSchedule, CrontabScheduleAdmin),
    (IntervalSchedule, IntervalScheduleAdmin),
    (SolarSchedule, SolarScheduleAdmin),
):
    admin.site.unregister(model)
    admin.site.register(model, model_admin)
