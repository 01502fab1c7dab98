"""Making a report: what is in it, what is left when it fails, and that twice is as good as once."""

import base64
import re
import zlib
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from unittest import mock

import pytest
from celery.exceptions import Retry, SoftTimeLimitExceeded
from django.db import IntegrityError, OperationalError, transaction
from django.utils import timezone

from apps.notifications.models import Email
from apps.reports import selectors, services, tasks
from apps.reports.models import KEPT, Report, ReportFile
from drumline.models import DurableTask

pytestmark = pytest.mark.django_db

State = Report.State


@pytest.fixture
def report(user):
    return services.report_request(user_id=user.pk, days=3)


def texts(pdf: bytes) -> list[list[str]]:
    """Return what is written on each page."""
    streams = re.findall(rb"stream\n(.*?)~>endstream", pdf, re.DOTALL)
    pages = [zlib.decompress(base64.a85decode(stream)) for stream in streams]
    return [[text.decode() for text in re.findall(rb"\((.*?)\) Tj", page)] for page in pages]


def state(report: Report) -> tuple[str, int]:
    row = selectors.reports().get(pk=report.pk)
    return row.state, row.pages_done


def test_a_report_has_a_page_for_each_day_with_what_happened_at_its_hour(user, report):
    Email.objects.create(user=user, kind=Email.Kind.WELCOME, sent_at=timezone.now())

    assert tasks.generate_pdf(report.pk)

    content = bytes(report.file.content)
    assert content.startswith(b"%PDF-")
    assert content.rstrip().endswith(b"%%EOF")
    first, _, last = texts(content)
    assert first[0] == "Account activity of ada@example.com"
    assert first[1] == "Page 1 of 3"
    assert f"{report.first_day:%A, %d %B %Y}" in first
    assert not any("e-mail" in text for text in first)
    [line] = [text for text in last if "Welcome e-mail sent" in text]
    assert "Account opened" in line
    assert line.endswith("; and 1 more")
    assert state(report) == (State.READY, 3)


def test_a_second_run_of_a_finished_report_does_nothing(report, caplog):
    tasks.generate_pdf(report.pk)
    before = ReportFile.objects.values().get(), Report.objects.values().get()

    with mock.patch("apps.reports.pdf.report_draw") as draw:
        assert not tasks.generate_pdf(report.pk)

    draw.assert_not_called()
    assert (ReportFile.objects.values().get(), Report.objects.values().get()) == before
    assert "report_skipped" in caplog.text


def test_the_same_days_make_the_same_bytes(user, report):
    tasks.generate_pdf(report.pk)
    first = report.file.sha256
    Report.objects.filter(pk=report.pk).update(finished_at=None)
    ReportFile.objects.all().delete()
    Email.objects.filter(user=user).delete()

    tasks.generate_pdf(report.pk)

    assert ReportFile.objects.get().sha256 == first


def test_a_run_after_one_that_died_starts_over(report):
    Report.objects.filter(pk=report.pk).update(pages_done=2)

    assert tasks.generate_pdf(report.pk)

    assert state(report) == (State.READY, 3)
    assert len(texts(bytes(report.file.content))) == 3


def test_a_report_that_is_gone_is_logged_and_skipped(user, report, caplog):
    user.delete()

    assert not tasks.generate_pdf(report.pk)

    assert "it is ready, or gone" in caplog.text


def at_page(number: int, do):
    """Do something when a page is read, before it is drawn."""
    pages = iter(range(1, 100))

    def events(*, user, day):
        return do() if next(pages) == number else selectors.events_of_day(user=user, day=day)

    return mock.patch("apps.reports.services.events_of_day", side_effect=events)


def test_progress_is_written_while_the_report_is_made(report, monkeypatch):
    monkeypatch.setattr(services, "PROGRESS", 0)
    seen = []

    with at_page(3, lambda: seen.append(state(report)) or []):
        services.report_generate(report_id=report.pk)

    assert seen == [(State.QUEUED, 2)]
    assert state(report) == (State.READY, 3)


def test_progress_is_written_once_a_second_at_the_most(report, django_assert_num_queries):
    with mock.patch("apps.reports.services.events_of_day", return_value=[]), django_assert_num_queries(6):
        # The report, one page of three, and a savepoint around the state and the file.
        services.report_generate(report_id=report.pk)


def test_a_report_that_is_deleted_meanwhile_is_given_up(report, monkeypatch, caplog):
    monkeypatch.setattr(services, "PROGRESS", 0)

    with at_page(2, lambda: report.delete() and []) as read:
        assert not services.report_generate(report_id=report.pk)

    assert read.call_count == 2
    assert not ReportFile.objects.exists()
    assert "it was deleted, or made elsewhere" in caplog.text


def test_a_report_that_is_made_elsewhere_meanwhile_is_given_up(report, monkeypatch):
    monkeypatch.setattr(services, "PROGRESS", 0)

    with at_page(2, lambda: services.report_generate(report_id=report.pk) and []) as read:
        assert not services.report_generate(report_id=report.pk)

    assert read.call_count == 2 + 3
    assert state(report) == (State.READY, 3)


def test_of_two_runs_that_end_at_once_one_makes_the_file(report):
    with at_page(3, lambda: services.report_generate(report_id=report.pk) and []):
        assert not services.report_generate(report_id=report.pk)

    assert ReportFile.objects.count() == 1


def open_files(folder: Path) -> list[str]:
    links = [Path(f"/proc/self/fd/{number.name}") for number in Path("/proc/self/fd").iterdir()]
    return [str(link.readlink()) for link in links if link.is_symlink() and str(folder) in str(link.readlink())]


def test_the_soft_time_limit_leaves_no_file_and_is_raised_again(report, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(services, "PROGRESS", 0)
    seen = []

    def time_is_up():
        seen.extend(open_files(tmp_path))
        assert list(tmp_path.iterdir()) == [], "a name would outlive a kill"
        raise SoftTimeLimitExceeded

    with at_page(3, time_is_up), pytest.raises(SoftTimeLimitExceeded):
        tasks.generate_pdf(report.pk)

    assert len(seen) == 1
    assert open_files(tmp_path) == []
    assert not ReportFile.objects.exists()
    assert state(report) == (State.QUEUED, 2)
    assert "report_took_too_long" in caplog.text
    assert (tasks.generate_pdf.soft_time_limit, tasks.generate_pdf.time_limit) == (120, 150)


def test_a_file_is_there_with_the_word_that_it_is_or_not_at_all(report):
    with (
        mock.patch("apps.reports.services.ReportFile.objects.create", side_effect=SoftTimeLimitExceeded),
        pytest.raises(SoftTimeLimitExceeded),
    ):
        tasks.generate_pdf(report.pk)

    assert Report.objects.get().finished_at is None
    assert tasks.generate_pdf(report.pk)


def test_a_database_that_was_restarted_is_asked_again(report):
    error = OperationalError("the connection is closed")
    with (
        mock.patch("apps.reports.services.report_generate", side_effect=error),
        mock.patch.object(tasks.generate_pdf, "retry", side_effect=Retry) as retry,
        pytest.raises(Retry),
    ):
        tasks.generate_pdf(report.pk)
    assert retry.call_args.kwargs["exc"] is error


@pytest.mark.parametrize(
    ("task_state", "expected"),
    [
        (DurableTask.State.QUEUED, State.QUEUED),
        (DurableTask.State.RUNNING, State.RUNNING),
        (DurableTask.State.DEAD, State.FAILED),
        (DurableTask.State.DISCARDED, State.FAILED),
    ],
)
def test_a_report_that_is_not_ready_is_where_its_task_is(report, task_state, expected):
    DurableTask.objects.update(state=task_state)
    assert state(report) == (expected, 0)


def test_a_report_without_a_task_failed_unless_it_is_ready(report):
    DurableTask.objects.all().delete()
    assert state(report)[0] == State.FAILED
    tasks.generate_pdf(report.pk)
    assert state(report)[0] == State.READY


def test_a_report_is_never_there_without_its_task(user):
    with (
        mock.patch("drumline.sending.enqueue._write", side_effect=OperationalError),
        pytest.raises(OperationalError),
    ):
        services.report_request(user_id=user.pk, days=1)
    assert not Report.objects.exists()


@pytest.mark.parametrize("pages", [0, 501])
def test_the_database_refuses_what_would_be_no_report_or_an_endless_one(user, pages):
    with pytest.raises(IntegrityError), transaction.atomic():
        Report.objects.create(user=user, last_day=date(2026, 1, 1), pages=pages)


def test_the_last_day_is_today_where_the_site_is(user, settings):
    settings.TIME_ZONE = "Pacific/Auckland"
    with mock.patch("django.utils.timezone.now", return_value=datetime(2026, 6, 30, 20, tzinfo=UTC)):
        report = services.report_request(user_id=user.pk, days=31)
    assert (report.first_day, report.last_day) == (date(2026, 6, 1), date(2026, 7, 1))


def test_a_day_is_the_sites_own_also_when_it_has_23_hours(user, settings):
    settings.TIME_ZONE = "Europe/Berlin"
    hours = {"before": (28, 22, 59), "first": (28, 23, 0), "last": (29, 21, 59), "after": (29, 22, 0)}
    for number, (day, hour, minute) in enumerate(hours.values()):
        report = Report.objects.create(user=user, last_day=date(2026, 3, 29), pages=number + 1)
        moment = datetime(2026, 3, day, hour, minute, tzinfo=UTC)
        Report.objects.filter(pk=report.pk).update(requested_at=moment)
    Report.objects.filter(pages=1).update(finished_at=datetime(2026, 3, 29, 1, 30, tzinfo=UTC))

    events = selectors.events_of_day(user=user, day=date(2026, 3, 29))

    assert [(f"{event.at:%H:%M}", event.what) for event in events] == [
        ("00:00", "Report requested"),
        ("03:30", "Report finished"),
        ("23:59", "Report requested"),
    ]


def test_what_happened_to_others_is_not_told(user, django_user_model):
    other = django_user_model.objects.create_user("bob@example.com", "difference engine no. 2")
    Email.objects.create(user=other, kind=Email.Kind.WELCOME)
    Report.objects.create(user=other, last_day=timezone.localdate(), pages=1)
    events = selectors.events_of_day(user=user, day=timezone.localdate())
    assert [event.what for event in events] == ["Account opened"]


def test_old_reports_are_deleted_with_their_files_in_batches_and_others_stay(user, report):
    for _ in range(5):
        old = Report.objects.create(user=user, last_day=date(2026, 1, 1), pages=1)
        services.report_generate(report_id=old.pk)
    long_ago = timezone.now() - KEPT - timedelta(seconds=1)
    Report.objects.exclude(pk=report.pk).update(requested_at=long_ago)

    assert services.reports_delete_old(batch=2, batches=2) == 4
    assert tasks.cleanup_old() == 1

    assert Report.objects.get() == report
    assert not ReportFile.objects.exists()
