"""Asking for a report, watching it, fetching it: each person their own."""

import re

import pytest
from celery.exceptions import SoftTimeLimitExceeded
from django.contrib.auth import get_user_model
from django.urls import reverse

from apps.reports import services
from apps.reports.models import Report, ReportFile
from drumline.models import DurableTask

pytestmark = pytest.mark.django_db


@pytest.fixture
def eager(settings):
    settings.CELERY_TASK_ALWAYS_EAGER = True


def ask(client, body):
    return client.post("/api/reports/", body, content_type="application/json")


def problem(answer, status):
    assert answer.status_code == status, answer.content
    assert answer["Content-Type"] == "application/problem+json"
    return answer.json()


@pytest.mark.usefixtures("eager")
def test_from_the_request_to_the_file(ada):
    answer = ask(ada, {"days": 12})
    assert answer.status_code == 202
    assert answer["Location"] == answer.json()["url"]

    report = ada.get(answer["Location"]).json()
    assert (report["state"], report["pages"], report["pages_done"], report["error"]) == ("ready", 12, 12, "")

    file = ada.get(report["file_url"])
    assert file.status_code == 200
    assert file["Content-Type"] == "application/pdf"
    name = f"activity-{report['first_day']}-{report['last_day']}.pdf"
    assert file["Content-Disposition"] == f'attachment; filename="{name}"'
    assert file["Cache-Control"] == "private, no-cache"
    assert len(re.findall(rb"/Type /Page\b", file.content)) == 12


def test_a_request_is_answered_before_anything_is_made(ada, user):
    report = ask(ada, {"days": 500}).json()

    assert set(report) == {
        *("id", "state", "first_day", "last_day", "pages", "pages_done", "error"),
        *("requested_at", "finished_at", "expires_at", "url", "file_url", "task_id", "task_url"),
    }
    assert (report["state"], report["pages_done"], report["file_url"]) == ("queued", 0, None)
    task = DurableTask.objects.get(id=report["task_id"])
    assert (task.name, task.queue) == ("reports.generate_pdf", "low")
    assert ada.get(report["task_url"]).json()["state"] == "queued"
    assert Report.objects.get().user == user
    assert not ReportFile.objects.exists()


@pytest.mark.parametrize("days", [0, -1, 501, 10**30, "ten", None, 1.5, [], True])
def test_a_bad_number_of_days_is_named(ada, days):
    answer = ask(ada, {"days": days})
    assert [reason["field"] for reason in problem(answer, 400)["errors"]] == ["days"]
    assert not Report.objects.exists()


def test_a_missing_number_of_days_is_named(ada):
    assert problem(ask(ada, {}), 400)["errors"][0]["field"] == "days"


def test_how_far_it_is_can_be_seen(ada):
    report = ask(ada, {"days": 40}).json()
    DurableTask.objects.update(state=DurableTask.State.RUNNING)
    Report.objects.update(pages_done=17)

    now = ada.get(report["url"]).json()

    assert (now["state"], now["pages_done"], now["pages"]) == ("running", 17, 40)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ("SoftTimeLimitExceeded: SoftTimeLimitExceeded()", "It took too long."),
        ("it took longer than its time limit (TimeLimitExceeded(150,))", "It took too long."),
        ("KeyError: 'the secret plan'", "It could not be made."),
    ],
)
def test_a_failure_is_told_without_the_softwares_own_words(ada, error, words):
    report = ask(ada, {"days": 1}).json()
    DurableTask.objects.update(state=DurableTask.State.DEAD, error=error)

    failed = ada.get(report["url"]).json()

    assert (failed["state"], failed["error"], failed["file_url"]) == ("failed", words, None)
    assert problem(ada.get(f"{report['url']}file/"), 409)["detail"] == "The report is failed, not ready."


def test_a_report_that_nobody_knows_the_task_of_any_more_could_not_be_made(ada):
    report = ask(ada, {"days": 1}).json()
    DurableTask.objects.all().delete()
    assert ada.get(report["url"]).json()["error"] == "It could not be made."


def test_a_file_that_is_not_ready_is_a_conflict_whatever_the_client_accepts(ada):
    report = ask(ada, {"days": 1}).json()
    for accept in ("application/pdf", "text/html", "*/*"):
        answer = ada.get(f"{report['url']}file/", headers={"Accept": accept})
        assert problem(answer, 409)["detail"] == "The report is queued, not ready."


@pytest.mark.usefixtures("eager")
def test_a_file_that_the_client_has_is_not_sent_again(ada):
    report = ask(ada, {"days": 2}).json()
    url = report["file_url"]
    etag = ada.get(url, headers={"Accept": "application/pdf"})["ETag"]

    same = ada.get(url, headers={"If-None-Match": etag})
    other = ada.get(url, headers={"If-None-Match": '"another"'})

    assert (same.status_code, same.content, same["ETag"]) == (304, b"", etag)
    assert other.status_code == 200


def test_the_list_holds_ones_own_reports_latest_first_and_ends(ada, root, monkeypatch):
    monkeypatch.setattr("apps.reports.api.LISTED", 2)
    ids = [ask(ada, {"days": days}).json()["id"] for days in (1, 2, 3)]
    theirs = ask(root, {"days": 3}).json()["id"]
    assert [report["id"] for report in ada.get("/api/reports/").json()] == ids[:0:-1]
    assert [report["id"] for report in root.get("/api/reports/").json()] == [theirs]


@pytest.mark.usefixtures("eager")
def test_a_strangers_report_is_not_there_for_an_administrator_either(ada, root):
    report = ask(ada, {"days": 1}).json()
    unknown = problem(root.get("/api/reports/987654321/"), 404)
    for url in (report["url"], report["file_url"], f"/api/reports/{10**30}/", f"/api/reports/{10**30}/file/"):
        assert problem(root.get(url), 404) == unknown


@pytest.mark.parametrize("path", ["/api/reports/", "/api/reports/1/", "/api/reports/1/file/"])
def test_nobody_who_has_not_signed_in_sees_anything(client, path):
    problem(client.get(path), 403)
    problem(ask(client, {"days": 1}), 403)


def test_asking_and_looking_have_limits_of_their_own(ada, monkeypatch):
    rates = {"reports.request": "1/min", "reports.read": "3/min"}
    monkeypatch.setattr("rest_framework.throttling.ScopedRateThrottle.THROTTLE_RATES", rates)
    url = ask(ada, {"days": 1}).json()["url"]
    assert int(ask(ada, {"days": 1})["Retry-After"]) > 0
    for path in ("/api/reports/", url, f"{url}file/"):
        assert ada.get(path).status_code in {200, 409}
    problem(ada.get(url), 429)
    assert Report.objects.count() == 1


@pytest.mark.usefixtures("eager")
def test_the_soft_time_limit_is_a_failed_report_and_nothing_else(ada, monkeypatch):
    monkeypatch.setattr(services, "events_of_day", lambda **_: (_ for _ in ()).throw(SoftTimeLimitExceeded))

    report = ask(ada, {"days": 3}).json()

    assert (report["state"], report["pages_done"], report["file_url"]) == ("failed", 0, None)


@pytest.mark.usefixtures("eager")
def test_the_administration_shows_reports_and_the_size_of_their_files(ada, root):
    report = ask(ada, {"days": 1}).json()
    page = root.get(reverse("admin:reports_report_changelist")).content.decode()
    assert "ready" in page
    assert "ada@example.com" in page
    assert root.get(reverse("admin:reports_report_change", args=[report["id"]])).status_code == 200
    size = len(ada.get(report["file_url"]).content)
    for page in ("admin:reports_reportfile_changelist", "admin:reports_reportfile_change"):
        args = [report["id"]] if page.endswith("_change") else []
        answer = root.get(reverse(page, args=args)).content.decode()
        assert str(size) in answer.replace(",", "")
    assert get_user_model().objects.count() == 2


def test_an_account_has_a_bounded_number_of_reports(ada, monkeypatch):
    monkeypatch.setattr("apps.reports.services.QUOTA", 2)
    monkeypatch.setattr("apps.reports.api.QUOTA", 2)
    assert [ask(ada, {"days": 1}).status_code for _ in range(2)] == [202, 202]
    assert "at most 2 reports" in problem(ask(ada, {"days": 1}), 429)["detail"]
