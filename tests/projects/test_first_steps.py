"""Celery's "First steps with Django": no drumline in it, queues in capitals, a schedule in a file, settings of a developer's machine."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.support.foreign import ForeignProject
from tests.support.waiting import wait_until

NOTES, SCHEDULED, EFFECTS = (f"/var/lib/drumline/{name}" for name in ("notes", "scheduled", "effects"))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForeignProject]:
    project = ForeignProject("first_steps", tmp_path_factory.mktemp("first_steps"))
    yield project
    project.down()


def test_it_runs_without_the_ledger_and_what_is_missing_is_said(project: ForeignProject) -> None:
    said = project.bring_up()
    project.drumline("verify")

    assert "without the ledger the tasks of a killed worker run again only after" in said
    assert "app_ledger: true brings all of this at deploy" in said
    assert project.lines == 0
    project.sign_in()
    project.send("demoapp.tasks.note", NOTES)
    wait_until(lambda: project.is_written(NOTES, "noted"), "a task runs in HIGH-priority", seconds=60)
    wait_until(lambda: project.is_written(SCHEDULED, "noted"), "beat runs", seconds=60)
    assert re.search(rf"{project.address}: \d+ checked, 0 changed", project.drumline("setup"))


def test_a_commit_is_deployed_by_its_name(project: ForeignProject) -> None:
    urls = project.checkout / "proj/urls.py"
    urls.write_text(urls.read_text() + "admin.site.site_header = 'Second release'\n")
    project.deploy_commit("Say which release this is.")

    assert "Second release" in project.sign_in().get("/admin/").text


def test_by_one_variable_a_killed_workers_task_runs_again(project: ForeignProject) -> None:
    project.set_up(app_ledger=True)
    project.send("demoapp.tasks.hold", EFFECTS)
    wait_until(lambda: project.is_written(EFFECTS, "started"), "the task starts", seconds=60)
    project.kill_workers("celery")
    project.on_host("touch", f"{EFFECTS}.gate")

    wait_until(lambda: project.is_written(EFFECTS, "ended"), "it runs again and ends", seconds=120)
    assert project.on_host("cat", EFFECTS).split().count("ended") == 1
    assert project.dead_letters() == 0


def test_the_schedule_of_its_settings_goes_on_in_the_database(project: ForeignProject) -> None:
    project.on_host("rm", SCHEDULED)

    wait_until(lambda: project.is_written(SCHEDULED, "noted"), "beat runs", seconds=60)
    assert "drumline.beat" in project.python("from django.conf import settings; print(settings.INSTALLED_APPS)")


def test_without_it_again_the_relay_is_gone_and_the_site_answers(project: ForeignProject) -> None:
    project.set_up(app_ledger=False)

    assert not project.succeeds("systemctl", "is-active", "drumline-relay.service")
    project.sign_in()


def test_a_host_that_does_not_exist_is_not_drained(project: ForeignProject) -> None:
    with pytest.raises(AssertionError, match=r"has no host app9[\s\S]*--host"):
        project.drumline("drain", "--host", "app9")


def test_another_project_is_refused_before_anything_is_changed(project: ForeignProject) -> None:
    release = project.release()
    project.put(app_name="Another")
    with pytest.raises(
        AssertionError, match=r"runs the project First Steps, and this one is Another[\s\S]*name another host"
    ):
        project.drumline("setup")

    assert project.release() == release
    project.put(app_name="First Steps")
    assert re.search(rf"{project.address}: \d+ checked, 0 changed", project.drumline("setup"))
