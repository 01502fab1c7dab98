"""Celery's "First steps with Django": no drumline in it, queues in capitals, a schedule in a file, the settings' own database."""

import pytest

from tests.support.foreign import ForeignProject
from tests.support.waiting import wait_until

NOTES, EFFECTS = "/var/lib/drumline/notes", "/var/lib/drumline/effects"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    project = ForeignProject("first_steps", tmp_path_factory.mktemp("first_steps"))
    yield project
    project.down()


def written(project, path, text):
    return project.succeeds("grep", "-q", text, path)


def test_it_runs_without_the_ledger_and_what_is_missing_is_said(project):
    said = project.playbook("site.yml", "verify.yml")

    assert "without the ledger the tasks of a killed worker run again only after" in said
    assert "app_ledger: true brings all of this at deploy" in said
    project.send("demoapp.tasks.note", NOTES)
    wait_until(lambda: written(project, NOTES, "noted"), "a task runs in HIGH-priority", seconds=60)
    wait_until(lambda: written(project, "/var/lib/drumline/scheduled", "noted"), "beat runs", seconds=60)
    assert "changed=0" in project.playbook("site.yml").splitlines()[-2]


def test_by_one_variable_a_killed_workers_task_runs_again(project):
    project.playbook("site.yml", "verify.yml", "--extra-vars", '{"app_ledger": true}')
    project.send("demoapp.tasks.hold", EFFECTS)
    wait_until(lambda: written(project, EFFECTS, "started"), "the task starts", seconds=60)
    project.on_host("systemctl", "kill", "--signal=KILL", "drumline-worker@default-1", "drumline-worker@default-2")
    project.on_host("touch", f"{EFFECTS}.gate")

    wait_until(lambda: written(project, EFFECTS, "ended"), "it runs again and ends", seconds=90)
    assert project.on_host("cat", EFFECTS).split().count("ended") == 1
    assert "dead letters: 0" in project.on_host("drumline-manage", "ledger", "status")


def test_without_it_again_the_relay_is_gone_and_the_site_answers(project):
    project.playbook("site.yml", "verify.yml")

    assert not project.succeeds("systemctl", "is-active", "drumline-relay.service")
