"""The chain that makes a day's figures: what it makes, where it stops, and how it goes on."""

from datetime import UTC, date, datetime
from unittest import mock
from zoneinfo import ZoneInfo

import pytest
from celery import current_app
from celery.exceptions import Retry
from django.contrib.auth import get_user_model
from django.db import DatabaseError, IntegrityError, OperationalError, ProgrammingError
from django.utils import timezone

from apps.notifications.models import Email
from apps.warehouse import selectors, tasks
from apps.warehouse.models import DailyFigure, DailyRun, StagedEvent
from apps.warehouse.services import daily
from drumline.ledger.selectors import task_arguments
from drumline.models import DurableTask

User = get_user_model()
Step = DailyRun.Step
DAY = date(2026, 11, 22)
LINKS = ["warehouse.fetch_data", "warehouse.transform_data", "warehouse.load_to_warehouse"]

pytestmark = pytest.mark.django_db


def at(hour, minute=0, day=22):
    return datetime(2026, 11, day, hour, minute, tzinfo=UTC)


def account(moment):
    return User.objects.create(email=f"user{User.objects.count()}@example.com", created_at=moment)


def figures(day=DAY):
    return list(
        DailyFigure.objects.filter(date=day).values_list("measure", "hour", "value").order_by("measure", "hour")
    )


@pytest.fixture
def busy_day():
    """Three accounts and two e-mails on the day, and one of each a moment before and after it."""
    accounts = [account(moment) for moment in (at(9), at(9, 59), at(23, 59), at(23, 59, day=21), at(0, day=23))]
    for user, moment in zip(accounts, (at(10), at(10, 30), None, at(23, 59, day=21), at(0, day=23)), strict=True):
        Email.objects.create(user=user, kind=Email.Kind.WELCOME, sent_at=moment)
    return accounts


FIGURES = [("emails.welcome", 10, 2), ("sign_ups", 9, 2), ("sign_ups", 23, 1)]


@pytest.mark.usefixtures("busy_day")
def test_a_day_becomes_figures_and_nothing_is_left_on_the_way(run_all):
    run_id = tasks.run_day("2026-11-22")
    run_all()
    assert figures() == FIGURES
    run = DailyRun.objects.get(pk=run_id)
    assert (run.date, run.state, run.error) == (DAY, DailyRun.State.DONE, "")
    assert run.ended_at >= run.started_at
    assert not StagedEvent.objects.exists()


@pytest.mark.usefixtures("busy_day")
def test_only_the_runs_id_goes_from_link_to_link(run, waiting):
    run_id = tasks.run_day("2026-11-22")
    for link in LINKS:
        assert waiting() == [link]
        [row] = DurableTask.objects.filter(name=link)
        assert task_arguments(row) == ([run_id], {})
        run(link)
    assert waiting() == []


@pytest.mark.usefixtures("busy_day")
def test_a_day_that_runs_again_is_replaced_and_never_doubled(run_all):
    tasks.run_day("2026-11-22")
    run_all()
    account(at(9, 30))
    Email.objects.all().delete()
    tasks.run_day("2026-11-22")
    run_all()
    assert figures() == [("sign_ups", 9, 3), ("sign_ups", 23, 1)]
    assert DailyRun.objects.count() == 1


@pytest.mark.usefixtures("busy_day")
def test_other_days_stay_as_they_are(run_all):
    for day in ("2026-11-21", "2026-11-22"):
        tasks.run_day(day)
        run_all()
    assert figures(date(2026, 11, 21)) == [("emails.welcome", 23, 1), ("sign_ups", 23, 1)]
    assert figures() == FIGURES


def test_a_start_that_is_delivered_twice_sends_one_chain(waiting):
    assert tasks.run_day("2026-11-22") == tasks.run_day("2026-11-22")
    assert waiting() == LINKS[:1]


@pytest.mark.usefixtures("no_ledger")
def test_a_run_whose_chain_cannot_be_sent_is_not_begun():
    with pytest.raises(DatabaseError):
        daily.run_start(day=DAY)
    assert not DailyRun.objects.exists()


def test_a_run_whose_chain_cannot_be_sent_is_not_resumed(request):
    run_id = daily.run_start(day=DAY).pk
    daily.run_fail(run_id=run_id, error="no such table")
    request.getfixturevalue("no_ledger")
    with pytest.raises(DatabaseError):
        daily.run_resume(run_id=run_id)
    assert DailyRun.objects.get(pk=run_id).state == DailyRun.State.FAILED


def test_without_a_date_it_is_the_day_that_is_over_where_the_site_is(settings):
    settings.TIME_ZONE = "Pacific/Auckland"
    with mock.patch.object(timezone, "now", return_value=at(12)):
        assert DailyRun.objects.get(pk=tasks.run_day()).date == DAY
    with mock.patch.object(timezone, "now", return_value=at(10, 59)):
        assert DailyRun.objects.get(pk=tasks.run_day()).date == date(2026, 11, 21)


@pytest.mark.parametrize("day", ["2026-02-30", "yesterday", "22.11.2026"])
def test_a_date_that_is_none_fails_and_starts_nothing(day):
    with pytest.raises(ValueError, match=r"Invalid isoformat|day is out of range"):
        tasks.run_day(day)
    assert not DailyRun.objects.exists()


@pytest.mark.parametrize(
    ("day", "hours"), [(date(2026, 3, 29), 23), (date(2026, 10, 25), 25), (date(2026, 11, 22), 24)]
)
def test_a_day_is_as_long_as_the_clocks_make_it(settings, day, hours):
    settings.TIME_ZONE = "Europe/Berlin"
    begin, end = selectors.day_bounds(day)
    assert (end.astimezone(UTC) - begin.astimezone(UTC)).total_seconds() == hours * 3600


def test_hours_are_those_of_the_sites_clock(settings, run_all):
    settings.TIME_ZONE = "Europe/Berlin"
    berlin = ZoneInfo("Europe/Berlin")
    # The hour from two to three comes twice that night.
    for fold in (0, 1):
        account(datetime(2026, 10, 25, 2, 30, tzinfo=berlin, fold=fold))
    account(datetime(2026, 10, 25, 23, 30, tzinfo=berlin))
    tasks.run_day("2026-10-25")
    run_all()
    assert figures(date(2026, 10, 25)) == [("sign_ups", 2, 2), ("sign_ups", 23, 1)]


@pytest.fixture
def broken(monkeypatch):
    """Let one step fail until the fixture is called."""

    def breaking(step):
        broken = monkeypatch.context()
        broken.__enter__().setitem(daily.WORK, step, mock.Mock(side_effect=ProgrammingError("no such table")))
        return lambda: broken.__exit__(None, None, None)

    return breaking


@pytest.mark.usefixtures("busy_day")
@pytest.mark.parametrize("step", list(Step))
def test_a_failing_link_says_which_and_why_and_is_resumed_there(broken, run_all, waiting, step):
    mend = broken(step)
    run_id = tasks.run_day("2026-11-22")
    run_all()

    stopped = DailyRun.objects.get(pk=run_id)
    assert (stopped.state, stopped.step, stopped.error) == ("failed", step, "ProgrammingError: no such table")
    assert stopped.ended_at is not None
    assert figures() == []
    assert waiting() == []

    mend()
    done = {name: mock.Mock(wraps=work) for name, work in daily.WORK.items()}
    with mock.patch.dict(daily.WORK, done):
        daily.run_resume(run_id=run_id)
        assert waiting() == [daily.LINKS[step]]
        run_all()
    assert figures() == FIGURES
    assert DailyRun.objects.get(pk=run_id).state == DailyRun.State.DONE
    before = list(Step)[: list(Step).index(step)]
    assert {name: work.call_count for name, work in done.items()} == {name: int(name not in before) for name in Step}


@pytest.mark.usefixtures("busy_day")
def test_the_failed_link_itself_run_again_takes_its_chain_along(broken, run_all):
    mend = broken(Step.TRANSFORM)
    run_id = tasks.run_day("2026-11-22")
    run_all()
    mend()
    # What `dead_letters requeue` does.
    DurableTask.objects.filter(name=daily.LINKS[Step.TRANSFORM]).update(state=DurableTask.State.QUEUED)
    run_all()
    assert figures() == FIGURES
    assert DailyRun.objects.get(pk=run_id).error == ""


@pytest.mark.usefixtures("busy_day")
def test_a_failed_day_starts_over_when_it_is_asked_for_again(broken, run_all):
    mend = broken(Step.LOAD)
    tasks.run_day("2026-11-22")
    run_all()
    mend()
    account(at(9, 30))
    tasks.run_day("2026-11-22")
    run_all()
    assert ("sign_ups", 9, 3) in figures()


@pytest.mark.usefixtures("busy_day")
def test_steps_that_run_again_and_out_of_order_change_nothing(run_all):
    run_id = tasks.run_day("2026-11-22")
    tasks.load_to_warehouse(run_id)
    tasks.transform_data(run_id)
    before = DailyRun.objects.get(pk=run_id)
    assert (before.step, before.state) == (Step.FETCH, DailyRun.State.RUNNING)
    tasks.fetch_data(run_id)
    assert tasks.fetch_data(run_id) == run_id
    assert StagedEvent.objects.count() == 5
    run_all()
    ended_at = DailyRun.objects.get(pk=run_id).ended_at
    for task in (tasks.load_to_warehouse, tasks.transform_data, tasks.fetch_data):
        assert task(run_id) == run_id
    assert DailyRun.objects.get(pk=run_id).ended_at == ended_at
    assert figures() == FIGURES


@pytest.mark.usefixtures("busy_day")
def test_two_chains_of_one_run_load_it_once(run_all):
    run = daily.run_start(day=DAY)
    daily.run_resume(run_id=run.pk)
    run_all()
    assert figures() == FIGURES


def test_a_run_that_is_done_cannot_be_resumed_nor_fail(run_all):
    run_id = tasks.run_day("2026-11-22")
    run_all()
    with pytest.raises(daily.RunDoneError, match="2026-11-22 is done"):
        daily.run_resume(run_id=run_id)
    daily.run_fail(run_id=run_id, error="too late")
    assert DailyRun.objects.get(pk=run_id).state == DailyRun.State.DONE


@pytest.mark.usefixtures("busy_day")
def test_a_step_that_fails_half_way_leaves_what_was_there(run_all):
    tasks.run_day("2026-11-22")
    run_all()
    run_id = tasks.run_day("2026-11-22")
    tasks.fetch_data(run_id)
    tasks.transform_data(run_id)
    with (
        mock.patch.object(DailyFigure.objects, "bulk_create", side_effect=IntegrityError),
        pytest.raises(IntegrityError),
    ):
        tasks.load_to_warehouse(run_id)
    assert figures() == FIGURES


@pytest.mark.parametrize("name", LINKS)
def test_a_database_that_is_away_is_tried_again_five_times_later_and_later(name):
    task = current_app.tasks[name]
    assert (task.max_retries, task.retry_backoff_max) == (5, 600)
    limits = []
    for retries in range(5):
        task.push_request(called_directly=False, retries=retries)
        try:
            with (
                mock.patch.object(daily, "run_step", side_effect=OperationalError("away")),
                mock.patch("celery.utils.time.random.randrange", side_effect=lambda limit: limits.append(limit) or 0),
                mock.patch.object(task, "retry", side_effect=Retry) as retry,
                pytest.raises(Retry),
            ):
                task.run(1)
        finally:
            task.pop_request()
        assert str(retry.call_args.kwargs["exc"]) == "away"
    assert limits == [2, 3, 5, 9, 17]
    task.push_request(called_directly=False, retries=5, args=(1,), kwargs={})
    try:
        with (
            mock.patch.object(daily, "run_step", side_effect=OperationalError("away")),
            pytest.raises(OperationalError),
        ):
            task.run(1)
    finally:
        task.pop_request()


def test_a_run_that_is_unknown_fails():
    with pytest.raises(DailyRun.DoesNotExist):
        tasks.fetch_data(7)
