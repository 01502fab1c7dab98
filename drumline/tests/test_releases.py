"""Going back to an older release: what it lacks is named before anything is switched."""

import io
import json

import pytest
from celery import current_app
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.migrations.operations import AlterField
from django.db.migrations.recorder import MigrationRecorder

from drumline.preflight.releases import Manifest

LATEST = ("auth", "0012_alter_user_first_name_max_length")

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("no_broker")]


@pytest.fixture
def older():
    """The manifest of this release, to be made an older one."""
    return Manifest.of(current_app).as_json()


@pytest.fixture
def go_back(older, monkeypatch, capsys):
    def run(*arguments, verb="rollback"):
        monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(older)))
        call_command("release", verb, *arguments)
        return capsys.readouterr().out

    return run


def applied():
    return MigrationRecorder(connection).applied_migrations()


def test_a_release_says_what_it_knows(capsys):
    call_command("release", "manifest")
    manifest = Manifest.read(json.loads(capsys.readouterr().out))
    assert "0001_initial" in manifest.migrations["drumline"]
    assert manifest.tasks["testproject.work"] == "(*args, **kwargs)"


def test_a_release_that_differs_in_nothing_can_be_gone_back_to(go_back):
    assert go_back() == "Nothing stands in the way.\n"


def test_tasks_that_wait_and_that_the_older_release_lacks_are_counted_and_can_be_waived(go_back, older):
    for _ in range(3):
        current_app.tasks["testproject.work"].delay()
    del older["tasks"]["testproject.work"]

    with pytest.raises(CommandError, match=r"testproject\.work: 3 wait, and the older release has no such task"):
        go_back()
    assert go_back("--any-task")


def test_tasks_that_wait_with_another_signature_are_refused_with_both(go_back, older):
    current_app.tasks["testproject.work"].delay()
    older["tasks"]["testproject.work"] = "(user_id)"

    with pytest.raises(
        CommandError, match=r"1 wait, and it takes \(\*args, \*\*kwargs\) now and \(user_id\) in the older release"
    ):
        go_back()


def test_an_entry_of_the_schedule_that_the_older_release_cannot_run_is_named(go_back, older):
    models = pytest.importorskip("django_celery_beat.models")
    every = models.IntervalSchedule.objects.create(every=1, period="hours")
    models.PeriodicTask.objects.create(name="nightly", task="testproject.work", interval=every)
    del older["tasks"]["testproject.work"]

    with pytest.raises(CommandError, match=r"the periodic task 'nightly' sends testproject\.work"):
        go_back()


def test_what_is_no_manifest_is_refused(go_back, older):
    older.clear()
    with pytest.raises(CommandError, match=r"cannot be compared.* deploy its commit"):
        go_back()


def test_a_migration_that_cannot_be_undone_is_refused_and_nothing_is_undone(go_back, older, monkeypatch):
    older["migrations"]["auth"].remove(LATEST[1])
    monkeypatch.setattr(AlterField, "reversible", False)

    with pytest.raises(
        CommandError, match=r"auth\.0012\w+ is applied, the older release lacks it, and it cannot be undone"
    ):
        go_back("--migrations=undo")
    assert LATEST in applied()
    assert go_back("--migrations=keep") == f"To be kept: {'.'.join(LATEST)}\n"


@pytest.mark.django_db(transaction=True)
def test_a_migration_that_can_be_undone_is_undone_when_that_is_asked_for(go_back, older):
    older["migrations"]["auth"].remove(LATEST[1])

    with pytest.raises(CommandError, match=r"auth\.0012\w+ is applied, and the older release lacks it"):
        go_back()
    assert LATEST in applied()

    assert go_back("--migrations=undo") == f"To be undone: {'.'.join(LATEST)}\n"
    assert LATEST in applied()

    assert go_back(verb="undo") == f"Undone: {'.'.join(LATEST)}\n"
    assert LATEST not in applied()
    assert go_back(verb="undo") == "There is nothing to undo.\n"

    call_command("migrate", "auth", verbosity=0)
    assert LATEST in applied()
