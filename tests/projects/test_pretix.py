"""pretix: no code in the checkout, settings of a package, names of its own for what it reads, five queues, no admin of Django's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.support.foreign import ForeignProject, deployed
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    import httpx


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForeignProject]:
    # Its build step imports it, for which the controller needs the Python of the hosts.
    with deployed("pretix", tmp_path_factory.mktemp("pretix"), debian="12", settings="pretix.settings") as project:
        yield project


def sign_in(project: ForeignProject) -> httpx.Client:
    return project.sign_in(login="/control/login", inside="/control/", user="email")


def test_init_reads_what_the_package_says(project: ForeignProject) -> None:
    assert "pretix.celery_app:app" in project.said
    queues = project.on_host("sh", "-c", "systemctl list-units --plain 'drumline-worker@*' | cut -d@ -f2 | cut -d- -f1")
    assert {"background", "checkout", "default", "mail", "notifications"} <= set(queues.split())


def test_the_administrator_signs_in_and_static_files_are_served(project: ForeignProject) -> None:
    client = sign_in(project)
    style = client.get("/control/").text.partition('href="/static/')[2].partition('"')[0]
    assert client.get(f"/static/{style}").status_code == 200


def test_what_customers_may_not_read_is_not_served(project: ForeignProject) -> None:
    for folder in ("invoices", "pub"):
        path = f"/var/lib/drumline-media/{folder}"
        project.on_host(
            "sh", "-c", f"umask 027; mkdir -p {path}; echo written >{path}/one.txt; chgrp -R www-data {path}"
        )

    assert project.client().get("/media/pub/one.txt").text == "written\n"
    assert project.client().get("/media/invoices/one.txt").status_code == 404


def test_its_periodic_command_runs_by_a_timer(project: ForeignProject) -> None:
    project.on_host("systemctl", "start", "drumline-timer-runperiodic.service")
    assert project.succeeds("systemctl", "is-active", "drumline-timer-runperiodic.timer")
    assert project.unit("drumline-timer-runperiodic.service", "Result") == "success"


def test_with_the_ledger_its_tasks_run_and_outlive_their_worker(project: ForeignProject) -> None:
    project.set_up(app_ledger=True)

    project.finish("pretix.base.services.datasync.sync_all")
    project.run_by_beat("checkout")
    project.survive_a_kill("checkout")


def test_a_second_release(project: ForeignProject) -> None:
    project.put(app_env={"PRETIX_PRETIX_INSTANCE_NAME": "Second release"})
    (project.checkout / "README").write_text("The box office.\n")
    project.deploy_commit("Another name.")

    assert "Second release" in project.client().get("/").text


def test_without_the_ledger_it_runs_as_it_did_before(project: ForeignProject) -> None:
    project.set_up(app_ledger=False)
    sign_in(project)
    wait_until(
        lambda: project.succeeds("systemctl", "is-active", "drumline-worker@mail-1"), "a worker runs", seconds=30
    )
