"""Validation of periodic tasks in the admin: entries that would fail, never run or wait for ever are rejected."""

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django_celery_beat import admin
from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask, SolarSchedule
from kombu.utils.json import loads

from drumline.application import application
from drumline.beat.due import NeverDueError, check_schedule
from drumline.preflight.routes import declared_queues, may_be_sent_to


class PeriodicTaskForm(admin.PeriodicTaskForm):  # type: ignore[misc]  # the library ships no types
    """Asks for a task, arguments, a queue and a crontab that exist, fit, and come."""

    class Meta:
        model = PeriodicTask
        # With a queue they are derived; without one they lead where no worker looks.
        exclude = ("exchange", "routing_key")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # The library offers the tasks of the application that was created last, and keeps them.
        application().loader.import_default_modules()
        widget: Any = self.fields["regtask"].widget
        widget.celery_app, widget._choices = application(), None  # noqa: SLF001

    def clean_args(self) -> str:
        """Ask for a list."""
        return self._json("args", list, "a list: [1]")

    def clean_kwargs(self) -> str:
        """Ask for an object."""
        return self._json("kwargs", dict, 'an object: {"user_id": 1}')

    def clean_headers(self) -> str:
        """Ask for an object."""
        return self._json("headers", dict, 'an object: {"name": "value"}')

    def clean_queue(self) -> str | None:
        """Ask for a declared queue; none is the routed one."""
        queue: str | None = self.cleaned_data["queue"]
        if queue and not may_be_sent_to(application(), queue):
            declared = ", ".join(sorted(declared_queues(application())))
            raise ValidationError(f"There is no queue {queue!r}. Declared queues are {declared}.", code="unknown")
        return queue

    def clean_crontab(self) -> CrontabSchedule | None:
        """Ask for one that is due some day."""
        return self._due("crontab")

    def clean_interval(self) -> IntervalSchedule | None:
        """Ask for one that advances: a migration or SQL may have made another."""
        return self._due("interval")

    def clean_solar(self) -> SolarSchedule | None:
        """Ask for one that beat can compute."""
        return self._due("solar")

    def clean(self) -> dict[str, Any]:
        """Ask for a task that exists and takes the arguments."""
        if "task" not in self.cleaned_data:
            # The name itself was refused, and the library's form expects one.
            return dict(self.cleaned_data)
        data: dict[str, Any] = super().clean()
        task: Any = application().tasks.get(data["task"])
        if task is None:
            field = "regtask" if data.get("regtask") else "task"
            self.add_error(field, ValidationError(f"There is no task {data['task']!r}.", code="unknown"))
        elif task.typing and "args" in data and "kwargs" in data:
            try:
                task.__header__(*loads(data["args"]), **loads(data["kwargs"]))
            except TypeError as error:
                self.add_error(
                    "args", ValidationError(f"The task does not accept these arguments: {error}", code="arguments")
                )
        return data

    def _due(self, field: str) -> Any:
        row = self.cleaned_data[field]
        if row is not None:
            check_row(row)
        return row

    def _json(self, field: str, kind: type, example: str) -> str:
        text: str = self.cleaned_data[field]
        try:
            value = loads(text) if text.strip() else kind()
        except (ValueError, RecursionError) as error:
            raise ValidationError(f"This is not JSON: {error}", code="json") from None
        if not isinstance(value, kind):
            raise ValidationError(f"This must be {example}", code="json")
        return text.strip() or str(kind())


class ScheduleForm(forms.ModelForm):  # type: ignore[type-arg]  # the class is not generic at run time
    """Asks for a schedule that is due some day."""

    def clean(self) -> dict[str, Any]:
        """Try it, once each field is right by itself."""
        data: dict[str, Any] = super().clean() or {}
        row = self._meta.model(**data)
        try:
            row.clean_fields(exclude=("id",))
        except ValidationError:
            # The form itself says it, at the field.
            return data
        check_row(row)
        return data


class CrontabForm(ScheduleForm):
    """Refuses 31 February."""

    class Meta:
        model = CrontabSchedule
        fields = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week", "timezone")


class IntervalForm(ScheduleForm):
    """Refuses what never advances, or lies beyond the last year."""

    class Meta:
        model = IntervalSchedule
        fields = ("every", "period")


class SolarForm(ScheduleForm):
    """Refuses what cannot be computed, as without the package ephem."""

    class Meta:
        model = SolarSchedule
        fields = ("event", "latitude", "longitude")


def check_row(row: Any) -> None:
    """Raise ValidationError for a schedule that beat cannot read, or that is never due, such as 31 February."""
    kind = row._meta.verbose_name  # noqa: SLF001  documented API
    try:
        check_schedule(row.schedule)
    except NeverDueError:
        raise ValidationError(f"{row} is never due: there is no such day.", code="never") from None
    except Exception as error:  # noqa: BLE001  Celery has a class of its own for each kind of mistake
        raise ValidationError(f"Invalid {kind}: {error}", code=kind) from None
