"""Alliance Auth: from PyPI, a scheduler of its own, priorities, a cache, log files, a driver that has no wheel."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.foreign import ForeignProject, deployed


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForeignProject]:
    # Its driver for MySQL is compiled, for which the hosts must be like the controller.
    with deployed("alliance_auth", tmp_path_factory.mktemp("alliance_auth"), debian="12") as project:
        yield project


def test_the_administrator_signs_in_and_its_log_is_kept(project: ForeignProject) -> None:
    project.sign_in()
    project.python("import logging; logging.getLogger('allianceauth').info('the log is kept')")
    assert project.is_written("/var/lib/drumline/writable/log/allianceauth.log", "the log is kept")


def test_with_the_ledger_its_tasks_run_and_outlive_their_worker(project: ForeignProject) -> None:
    project.set_up(app_ledger=True)

    project.finish("allianceauth.authentication.tasks.check_all_character_ownership")
    project.survive_a_kill("celery")


def test_its_schedule_is_kept_and_runs(project: ForeignProject) -> None:
    names = project.python(
        "from django_celery_beat.models import PeriodicTask; print(*PeriodicTask.objects.values_list('name', flat=True))"
    )
    assert {"run_model_update", "admin_status_tasks"} <= set(names.split())
    project.run_by_beat("celery")


def test_a_second_release_and_the_way_back(project: ForeignProject) -> None:
    before = project.release()
    settings = project.checkout / "myauth/settings/local.py"
    settings.write_text(settings.read_text() + "SITE_NAME = 'Second release'\n")
    project.deploy_commit("Another name.")
    assert "Second release" in project.client().get("/account/login/").text
    project.drumline("rollback")

    assert project.release() == before


def test_without_the_ledger_it_runs_as_it_did_before(project: ForeignProject) -> None:
    project.set_up(app_ledger=False)
    project.sign_in()
