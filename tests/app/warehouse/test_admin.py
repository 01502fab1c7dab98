"""The warehouse in the administration."""

from datetime import UTC, date, datetime

import pytest
from django.apps import apps
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.urls import reverse

from apps.warehouse.models import CsvPiece, DailyFigure, DailyRun
from apps.warehouse.services import daily
from tests.app.warehouse.test_imports import csv_file, receive  # noqa: F401  a fixture

pytestmark = pytest.mark.django_db

MODELS = [model._meta.model_name for model in apps.get_app_config("warehouse").get_models()]


@pytest.fixture
def operator(client):
    operator = get_user_model().objects.create_user("op@example.com", "difference engine no. 2", is_staff=True)
    operator.user_permissions.set(Permission.objects.filter(content_type__app_label="warehouse"))
    client.force_login(operator)
    return operator


@pytest.fixture
def failed_run():
    run = daily.run_start(day=date(2026, 11, 22))
    daily.run_fail(run_id=run.pk, error="ProgrammingError: no such table")
    return run


def resume(client, *runs):
    data = {"action": "resume", "_selected_action": [run.pk for run in runs]}
    return client.post(reverse("admin:warehouse_dailyrun_changelist"), data, follow=True)


@pytest.fixture
def one_of_each(receive, run, run_all):  # noqa: F811
    """Rows of every model: a file that is loaded, one that is on its way, and a run that is, too."""
    receive(csv_file(2) + b"x\n")
    run_all()
    receive(csv_file(2))
    run("warehouse.split_import")
    run("warehouse.process_chunk")
    get_user_model().objects.create(email="user@example.com", created_at=datetime(2026, 11, 21, 9, tzinfo=UTC))
    daily.run_start(day=date(2026, 11, 21))
    run("warehouse.fetch_data")
    DailyFigure.objects.create(date=date(2026, 11, 20), measure="sign_ups", hour=9, value=2)


@pytest.mark.usefixtures("operator", "one_of_each")
@pytest.mark.parametrize("model", MODELS)
def test_every_model_has_its_page_and_nobody_writes_there(client, model):
    row = apps.get_model("warehouse", model).objects.first()
    page = client.get(reverse(f"admin:warehouse_{model}_changelist"))
    assert page.status_code == 200
    assert str(row.pk) in page.content.decode()
    change = reverse(f"admin:warehouse_{model}_change", args=[row.pk])
    assert client.get(change).status_code == 200
    assert client.post(change, {}).status_code == 403
    assert client.get(reverse(f"admin:warehouse_{model}_add")).status_code == 403
    assert client.post(reverse(f"admin:warehouse_{model}_delete", args=[row.pk]), {"post": "yes"}).status_code == 403


@pytest.mark.usefixtures("operator")
def test_the_bytes_of_an_upload_are_not_shown(client, receive):  # noqa: F811
    receive(csv_file(1).replace(b"SKU-1", b"SECRET-1"))
    page = client.get(reverse("admin:warehouse_csvpiece_change", args=[CsvPiece.objects.get().pk]))
    assert b"SECRET-1" not in page.content


@pytest.mark.usefixtures("operator")
def test_a_failed_run_is_resumed_from_the_list(client, failed_run, run_all):
    page = resume(client, failed_run)
    assert b"The run of 2026-11-22 resumes with fetch." in page.content
    run_all()
    failed_run.refresh_from_db()
    assert (failed_run.state, failed_run.error) == (DailyRun.State.DONE, "")


@pytest.mark.usefixtures("operator")
def test_a_run_that_is_done_is_left_alone_and_said_so(client, failed_run, run_all, waiting):
    resume(client, failed_run)
    run_all()
    assert b"The run of 2026-11-22 is done." in resume(client, failed_run).content
    assert waiting() == []


def test_who_may_not_change_runs_resumes_none(client, operator, failed_run, waiting):
    operator.user_permissions.set(Permission.objects.filter(codename="view_dailyrun"))
    waited = waiting()
    resume(client, failed_run)
    failed_run.refresh_from_db()
    assert failed_run.state == DailyRun.State.FAILED
    assert waiting() == waited
