"""What an operator schedules in the administration, and what is refused there."""

from html import unescape

import celery
import pytest
from django.urls import reverse
from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask, SolarSchedule

from drumline.beat.models import MissedRuns
from drumline.models import DurableTask

pytestmark = pytest.mark.django_db

# Celery 5.7 says so itself.
NEVER = "is never due" if celery.VERSION < (5, 7) else "never occurs"

DAILY = {"minute": "0", "hour": "8", "day_of_month": "*", "month_of_year": "*", "day_of_week": "*", "timezone": "UTC"}


@pytest.fixture
def save(root):
    """Add or change a periodic task, and return the form's errors."""

    def save(row=None, **changes):
        fields = {
            "name": "mine",
            "regtask": "drumline.ping",
            "task": "",
            "enabled": "on",
            "interval": IntervalSchedule.objects.get_or_create(every=6, period="hours")[0].pk,
            "args": "[]",
            "kwargs": "{}",
            "headers": "{}",
            "missed_runs-TOTAL_FORMS": "1",
            "missed_runs-INITIAL_FORMS": "0",
            "missed_runs-0-policy": "all",
            **changes,
        }
        page = reverse("admin:django_celery_beat_periodictask_add")
        if row:
            page = reverse("admin:django_celery_beat_periodictask_change", args=[row.pk])
        answer = root.post(page, {name: value for name, value in fields.items() if value is not None})
        return {} if answer.status_code == 302 else answer.context["adminform"].form.errors

    return save


def crontab(**fields) -> int:
    return CrontabSchedule.objects.create(**{**DAILY, **fields}).pk


def test_a_task_is_scheduled_with_arguments_a_queue_and_a_policy(save):
    assert save(args="[0.5]", queue="low", expire_seconds="60") == {}
    row = PeriodicTask.objects.get()
    assert (row.task, row.args, row.queue, row.exchange, row.enabled) == ("drumline.ping", "[0.5]", "low", None, True)
    assert MissedRuns.objects.get(periodic_task=row).policy == "all"


@pytest.mark.usefixtures("another_application", "no_broker")
def test_what_may_be_scheduled_is_what_the_ledgers_application_knows_and_not_the_one_that_was_created_last(save, root):
    assert save(queue="low") == {}
    assert save(queue="nowhere")["queue"] == ["There is no queue 'nowhere'. Declared queues are default, high, low."]
    page = root.get(reverse("admin:django_celery_beat_periodictask_add")).content.decode()
    assert '<option value="testproject.own">' in page
    own = PeriodicTask.objects.get()
    PeriodicTask.objects.update(task="testproject.own")
    root.post(
        reverse("admin:django_celery_beat_periodictask_changelist"), {"action": "run_tasks", "_selected_action": own.pk}
    )
    assert DurableTask.objects.get().name == "testproject.own"


def test_empty_arguments_are_none(save):
    assert save(args=" ", kwargs="", headers="", queue="") == {}
    row = PeriodicTask.objects.get()
    assert (row.args, row.kwargs, row.queue) == ("[]", "{}", None)


def test_a_task_is_changed(save):
    save()
    row = PeriodicTask.objects.get()
    nightly = crontab(hour="3")
    policy = {"missed_runs-INITIAL_FORMS": "1", "missed_runs-0-id": row.missed_runs.pk}
    policy |= {"missed_runs-0-periodic_task": row.pk, "missed_runs-0-policy": "skip"}
    assert save(row, interval=None, crontab=nightly, **policy) == {}
    row.refresh_from_db()
    assert (row.interval, row.crontab.hour, row.missed_runs.policy) == (None, "3", "skip")


@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        ({"regtask": "drumline.pong"}, "regtask", "There is no task 'drumline.pong'."),
        ({"regtask": "", "task": "drumline.pong"}, "task", "There is no task 'drumline.pong'."),
        ({"regtask": "", "task": "x" * 201}, "task", "at most 200 characters"),
        ({"regtask": "", "task": ""}, "task", "Need name of task"),
        ({"args": "[1"}, "args", "This is not JSON"),
        ({"args": "7"}, "args", "This must be a list"),
        ({"args": "[" * 100_000}, "args", "This is not JSON"),
        ({"args": "[1, 2, 3]"}, "args", "The task does not accept these arguments"),
        ({"kwargs": '{"second": 1}'}, "args", "The task does not accept these arguments"),
        ({"kwargs": "[]"}, "kwargs", "This must be an object"),
        ({"kwargs": "{'seconds': 1}"}, "kwargs", "This is not JSON"),
        ({"headers": "[]"}, "headers", "This must be an object"),
        ({"queue": "hgih"}, "queue", "There is no queue 'hgih'. Declared queues are default, high, low."),
        ({"name": ""}, "name", "required"),
        ({"interval": None}, "__all__", "must be set"),
        ({"expire_seconds": "5", "expires_0": "2030-01-01", "expires_1": "00:00"}, "__all__", "Only one can be set"),
    ],
)
def test_what_could_not_run_is_refused_at_its_field(save, changes, field, message):
    errors = save(**changes)
    assert message in unescape(str(errors.get(field))), errors
    assert not PeriodicTask.objects.exists()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"day_of_month": "31", "month_of_year": "2"}, NEVER),
        ({"day_of_month": "31", "month_of_year": "4,6,9,11"}, NEVER),
        # The library's own help names it as a Sunday, and beat passes over it without a word.
        ({"day_of_week": "7"}, "Invalid crontab"),
    ],
)
def test_a_crontab_that_never_comes_is_refused_where_it_is_made_and_where_it_is_used(save, root, fields, message):
    answer = root.post(reverse("admin:django_celery_beat_crontabschedule_add"), {**DAILY, **fields, **inline()})
    assert message in str(answer.context["adminform"].form.errors)
    assert not CrontabSchedule.objects.exists()

    errors = save(interval=None, crontab=crontab(**fields))
    assert message in str(errors["crontab"])
    assert not PeriodicTask.objects.exists()


@pytest.mark.parametrize(
    "fields",
    [{}, {"day_of_month": "29", "month_of_year": "2"}, {"day_of_week": "mon-fri", "timezone": "Europe/Vienna"}],
    ids=["daily", "leap day", "weekdays"],
)
def test_a_crontab_that_comes_is_saved(root, fields):
    answer = root.post(reverse("admin:django_celery_beat_crontabschedule_add"), {**DAILY, **fields, **inline()})
    assert answer.status_code == 302
    assert CrontabSchedule.objects.count() == 1


def test_a_field_that_is_wrong_by_itself_is_named(root):
    answer = root.post(reverse("admin:django_celery_beat_crontabschedule_add"), {**DAILY, "hour": "25", **inline()})
    assert list(answer.context["adminform"].form.errors) == ["hour"]


def inline() -> dict[str, str]:
    return {"periodictask_set-TOTAL_FORMS": "0", "periodictask_set-INITIAL_FORMS": "0"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"every": 0, "period": "seconds"}, "greater than or equal to 1"),
        ({"every": -1, "period": "days"}, "greater than or equal to 1"),
        ({"every": 2**31 - 1, "period": "days"}, "Invalid interval"),
        ({"every": 900_000_000, "period": "days"}, "is never due"),
    ],
)
def test_an_interval_that_never_advances_is_refused_where_it_is_made_and_where_it_is_used(save, root, fields, message):
    answer = root.post(reverse("admin:django_celery_beat_intervalschedule_add"), {**fields, **inline()})
    assert message in unescape(str(answer.context["adminform"].form.errors))
    assert not IntervalSchedule.objects.filter(**fields).exists()

    errors = save(interval=IntervalSchedule.objects.create(**fields).pk)
    assert "Invalid interval" in str(errors["interval"]) or "is never due" in str(errors["interval"])
    assert not PeriodicTask.objects.exists()


def test_an_event_of_the_sun_that_cannot_be_computed_is_refused(save, root):
    """The package that computes them is optional."""
    fields = {"event": "sunrise", "latitude": "48.2", "longitude": "16.4"}
    answer = root.post(reverse("admin:django_celery_beat_solarschedule_add"), {**fields, **inline()})
    assert "ephem" in unescape(str(answer.context["adminform"].form.errors))

    errors = save(interval=None, solar=SolarSchedule.objects.create(**fields).pk)
    assert "Invalid solar event" in str(errors["solar"])
