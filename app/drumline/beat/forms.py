"""What an operator may schedule: what would fail, run never or wait for ever is refused when it is saved."""

from datetime import UTC, datetime
from typing import Any

from celery import current_app
from celery.schedules import ParseException
from django import forms
from django.core.exceptions import ValidationError
from django_celery_beat import admin
from django_celery_beat.models import CrontabSchedule, PeriodicTask
from kombu.utils.json import loads

from drumline.beat.due import due_after


class PeriodicTaskForm(admin.PeriodicTaskForm):  # type: ignore[misc]  # the library ships no types
    """Asks for a task, arguments, a queue and a crontab that exist, fit, and come."""

    class Meta:
        model = PeriodicTask
        # With a queue they are derived; without one they lead where no worker looks.
        exclude = ("exchange", "routing_key")

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
        declared = sorted(current_app.amqp.queues)
        if queue and queue not in declared:
            raise ValidationError(f"There is no queue {queue!r}. Declared are {', '.join(declared)}.", code="unknown")
        return queue

    def clean_crontab(self) -> CrontabSchedule | None:
        """Ask for one that is due some day."""
        crontab: CrontabSchedule | None = self.cleaned_data["crontab"]
        if crontab is not None:
            check_crontab(crontab)
        return crontab

    def clean(self) -> dict[str, Any]:
        """Ask for a task that exists and takes the arguments."""
        if "task" not in self.cleaned_data:
            # The name itself was refused, and the library's form expects one.
            return dict(self.cleaned_data)
        data: dict[str, Any] = super().clean()
        current_app.loader.import_default_modules()
        task: Any = current_app.tasks.get(data["task"])
        if task is None:
            field = "regtask" if data.get("regtask") else "task"
            self.add_error(field, ValidationError(f"There is no task {data['task']!r}.", code="unknown"))
        elif task.typing and "args" in data and "kwargs" in data:
            try:
                task.__header__(*loads(data["args"]), **loads(data["kwargs"]))
            except TypeError as error:
                self.add_error("args", ValidationError(f"The task does not take these: {error}", code="arguments"))
        return data

    def _json(self, field: str, kind: type, example: str) -> str:
        text: str = self.cleaned_data[field]
        try:
            value = loads(text) if text.strip() else kind()
        except (ValueError, RecursionError) as error:
            raise ValidationError(f"This is not JSON: {error}", code="json") from None
        if not isinstance(value, kind):
            raise ValidationError(f"This must be {example}", code="json")
        return text.strip() or str(kind())


class CrontabForm(forms.ModelForm):  # type: ignore[type-arg]  # the class is not generic at run time
    """Asks for a crontab that is due some day."""

    class Meta:
        model = CrontabSchedule
        fields = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week", "timezone")

    def clean(self) -> dict[str, Any]:
        """Try it, once each field is right by itself."""
        data: dict[str, Any] = super().clean() or {}
        crontab = CrontabSchedule(**data)
        try:
            crontab.clean_fields()
        except ValidationError:
            # The form itself says it, at the field.
            return data
        check_crontab(crontab)
        return data


def check_crontab(crontab: CrontabSchedule) -> None:
    """Raise ValidationError for a crontab that beat cannot read, or that is never due, such as 31 February."""
    now = datetime.now(UTC)
    try:
        due = due_after(crontab.schedule, now, now)
    except (ValueError, ParseException) as error:
        raise ValidationError(f"This is no crontab: {error}", code="crontab") from None
    if due is None:
        raise ValidationError(f"{crontab} is never due: no such day comes.", code="never")
