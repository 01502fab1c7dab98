"""From the request for a report to its file, through a worker that is killed, and through both time limits."""

import re
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.application import Answer
from tests.support.waiting import wait_until

CSRF = "c" * 32
SIGN_IN = """
from django.contrib.auth import get_user_model
from django.test import Client
client = Client()
client.force_login(get_user_model().objects.create_user("ada@example.com", "difference engine no. 2"))
print(client.cookies["sessionid"].value)
"""
# As services.report_request does, but for the limits.
ASK_WITH_LIMITS = """
from celery import signature
from apps.reports.models import Report
from apps.users.models import User
from drumline.sending.owners import owned
user = User.objects.get()
report = Report.objects.create(user=user, last_day="2026-06-30", pages=500)
task = owned(signature("reports.generate_pdf", args=(report.pk,)), owner=user.pk)
task.apply_async(task_id=str(report.task_id), soft_time_limit=3, time_limit=4)
"""


class Ada:
    """A person who has signed in."""

    def __init__(self, application) -> None:
        self.application = application
        session = application.manage("shell", "--no-imports", "-c", SIGN_IN).stdout.strip()
        self.headers = {
            "Cookie": f"sessionid={session}; csrftoken={CSRF}",
            "X-CSRFToken": CSRF,
            "Referer": "https://testserver/",
        }

    def get(self, path: str, **headers: str) -> Answer:
        return self.application.get(path, **self.headers, **headers)

    def post(self, path: str, body) -> Answer:
        return self.application.post(path, body, **self.headers)


@pytest.fixture
def ada(application):
    application.with_probe()
    application.relay()
    application.web()
    return Ada(application)


def test_a_report_is_watched_and_fetched_although_its_worker_is_killed(application, ada, sql):
    worker = application.worker("low", PROBE_PAGE_SECONDS="0.02")
    answer = ada.post("/api/reports/", {"days": 500})
    assert answer.status == 202
    url, file_url = answer.headers["Location"], answer.headers["Location"] + "file/"

    [[first]] = wait_until(lambda: sql("SELECT pages_done FROM reports_report WHERE pages_done > 0"), "progress")
    wait_until(lambda: sql(f"SELECT 1 FROM reports_report WHERE pages_done > {first}"), "more progress")
    running = ada.get(url).json()
    assert (running["state"], running["file_url"]) == ("running", None)
    assert first < running["pages_done"] < running["pages"] == 500
    assert ada.get(running["task_url"]).json()["state"] == "running"
    assert ada.get(file_url).status == 409

    worker.stop()
    application.worker("low")

    wait_until(lambda: sql("SELECT 1 FROM drumline_ledger WHERE state = 2"), "it is made by the next run")
    ready = ada.get(url).json()
    assert (ready["state"], ready["pages_done"], ready["file_url"]) == ("ready", 500, file_url)
    file = ada.get(file_url, Accept="application/pdf")
    assert (file.status, file.headers["Content-Type"]) == (200, "application/pdf")
    assert len(re.findall(rb"/Type /Page\b", file.body)) == 500
    assert ada.get(file_url, **{"If-None-Match": file.headers["ETag"]}).status == 304
    task = ada.get(ready["task_url"]).json()
    assert (task["state"], task["attempts"]) == ("finished", 2)

    before = sql("SELECT * FROM reports_report"), sql("SELECT sha256 FROM reports_reportfile")
    assert application.enqueue("reports.generate_pdf", f"[{ready['id']}]")["state"] == "SUCCESS"
    assert (sql("SELECT * FROM reports_report"), sql("SELECT sha256 FROM reports_reportfile")) == before


@pytest.mark.parametrize("limit", ["soft", "hard"])
def test_a_time_limit_leaves_no_file_a_dead_letter_and_a_clear_state(application, ada, sql, tmp_path, limit):
    folder = tmp_path / "temporary"
    folder.mkdir()
    application.manage("shell", "--no-imports", "-c", ASK_WITH_LIMITS)
    env = {"soft": {}, "hard": {"PROBE_DEAF": "yes"}}[limit]
    worker = application.worker("low", PROBE_PAGE_SECONDS="0.02", TMPDIR=str(folder), **env)

    wait_until(lambda: open_files(worker, folder), "the file is being made")
    assert named_files(folder) == [], "a kill would leave it"
    wait_until(lambda: sql("SELECT 1 FROM drumline_ledger WHERE state = 3"), "it is a dead letter")

    [report] = ada.get("/api/reports/").json()
    assert (report["state"], report["error"]) == ("failed", "It took too long.")
    assert 0 < report["pages_done"] < 500
    assert ada.get(f"{report['url']}file/").status == 409
    task = ada.get(report["task_url"]).json()
    error = {"soft": "SoftTimeLimitExceeded", "hard": "TimeLimitExceeded"}[limit]
    assert (task["state"], task["error"], task["attempts"]) == ("dead", error, 1)
    assert open_files(worker, folder) == named_files(folder) == []

    # The same worker serves the next one.
    ada.post("/api/reports/", {"days": 3})
    wait_until(lambda: sql("SELECT 1 FROM reports_reportfile"), "another report is made")


def named_files(folder: Path) -> list[Path]:
    """Return what lies in a worker's temporary folder, but for what its pool keeps there."""
    return [path for path in folder.iterdir() if not path.name.startswith("pymp-")]


def open_files(worker, folder: Path) -> list[Path]:
    """Return what a worker's pool holds open there, named or not."""
    pid = worker.popen.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [path for child in children for path in descriptors(Path(f"/proc/{child}/fd")) if path.parent == folder]


def descriptors(folder: Path) -> list[Path]:
    # They come and go while one looks.
    with suppress(FileNotFoundError):
        return [link.readlink() for link in folder.iterdir()]
    return []
