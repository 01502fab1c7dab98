"""A project on Django's own tasks: no Celery application, no tasks backend, and nothing that a user writes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.foreign import ForeignProject, deployed
from tests.support.waiting import wait_until

NOTES, EFFECTS = "/var/lib/drumline/notes", "/var/lib/drumline/effects"
RESULT = """
from letters.tasks import hold
result = hold.get_result({id!r})
print(result.status, result.attempts, result.status == "SUCCESSFUL" and result.return_value)
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForeignProject]:
    with deployed("django_tasks", tmp_path_factory.mktemp("django_tasks")) as project:
        yield project


def enqueue(project: ForeignProject, task: str, *arguments: str) -> str:
    said = project.python(f"from letters.tasks import {task}; print('id', {task}.enqueue(*{arguments!r}).id)")
    return said.partition("id ")[2].split()[0]


def test_it_is_deployed_by_what_init_wrote(project: ForeignProject) -> None:
    assert "django.tasks" in project.said
    assert project.lines == 0
    project.sign_in()


def test_a_task_runs_in_the_queue_that_it_names(project: ForeignProject) -> None:
    enqueue(project, "note", NOTES)
    wait_until(lambda: project.is_written(NOTES, "noted"), "the task runs", seconds=60)


def test_a_killed_workers_task_runs_again_and_its_result_says_so(project: ForeignProject) -> None:
    sent = enqueue(project, "hold", EFFECTS)
    wait_until(lambda: project.is_written(EFFECTS, "started 1"), "the task starts", seconds=60)
    project.kill_workers()
    wait_until(lambda: project.is_written(EFFECTS, "started 2"), "it starts again", seconds=120)
    project.on_host("touch", f"{EFFECTS}.gate")

    wait_until(
        lambda: "SUCCESSFUL 2 2" in project.python(RESULT.format(id=sent)),
        lambda: project.python(RESULT.format(id=sent)),
        seconds=60,
        pause=1,
    )
    assert project.dead_letters() == 0


def test_a_second_release_runs_its_tasks(project: ForeignProject) -> None:
    tasks = project.checkout / "letters/tasks.py"
    tasks.write_text(tasks.read_text().replace("'noted'", "'noted by the second release'"))
    project.deploy_commit("Note more.")
    enqueue(project, "note", NOTES)

    wait_until(lambda: project.is_written(NOTES, "second release"), "the new code runs", seconds=60)
