"""cookiecutter-django with Celery and ASGI: django-environ, allauth, whitenoise, a schedule in the database."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import pytest

from tests.support.foreign import ForeignProject, deployed

NEEDED = {"process": "worker", "set": "MemoryDenyWriteExecute=no", "reason": "a library compiles while it runs"}

pytestmark = pytest.mark.skipif(
    "COOKIECUTTER_DJANGO" not in os.environ, reason="COOKIECUTTER_DJANGO names no checkout of the template"
)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForeignProject]:
    with deployed("cookiecutter_django", tmp_path_factory.mktemp("cookiecutter_django")) as project:
        yield project


def test_the_administrator_signs_in_and_static_files_are_served(project: ForeignProject) -> None:
    client = project.sign_in()
    page = client.get("/").text
    style = page.partition('href="/static/')[2].partition('"')[0]
    assert client.get(f"/static/{style}").status_code == 200


def test_with_the_ledger_its_tasks_run_and_outlive_their_worker(project: ForeignProject) -> None:
    said = project.set_up(app_ledger=True, app_sandbox_exceptions=[NEEDED])

    # What one process needs is taken from no other one.
    assert project.unit("drumline-worker@celery-1.service", "MemoryDenyWriteExecute") == "no"
    assert project.unit("drumline-worker@celery-1.service", "ProtectSystem") == "strict"
    assert project.unit("drumline-beat.service", "MemoryDenyWriteExecute") == "yes"
    assert re.search(r"Overall exposure level for drumline-worker@celery-1.service: [\d.]+", said)

    project.finish("bookings.users.tasks.get_users_count")
    project.run_by_beat("celery")
    project.survive_a_kill("celery")


def test_a_second_release(project: ForeignProject) -> None:
    page = project.checkout / "bookings/templates/pages/about.html"
    page.write_text("Second release")
    project.deploy_commit("Another page.")

    assert "Second release" in project.client().get("/about/").text


def test_without_the_ledger_it_runs_as_it_did_before(project: ForeignProject) -> None:
    project.set_up(app_ledger=False)
    project.sign_in()
