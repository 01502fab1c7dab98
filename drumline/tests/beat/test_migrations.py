"""A database that the app `drumline` migrated before the schedule had an app of its own keeps its rows."""

import django
import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.contrib.contenttypes.models import ContentType
from django.core.management import call_command
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from drumline.beat.models import MissedRuns

pytestmark = pytest.mark.skipif(django.VERSION < (5,), reason="the migrations of that time need Django 5")

TABLES = {"drumline_codescheduleentry", "drumline_missedruns"}


@pytest.fixture
def migrate(transactional_db, settings):  # noqa: ARG001  it opens the database
    """Migrate an app, by the migrations of before or of now, in a database that knows of neither app yet."""

    def migrate(app, *target, before=False):
        settings.MIGRATION_MODULES = {"drumline": "testproject.migrations_before_beat"} if before else {}
        call_command("migrate", app, *target, verbosity=0)

    def forget():
        migrate("drumline_beat", "zero")
        migrate("drumline", "zero")
        # What no migration made, or one of before did.
        MigrationRecorder(connection).migration_qs.filter(app="drumline").delete()
        ContentType.objects.filter(app_label__in=("drumline", "drumline_beat")).delete()
        with connection.cursor() as cursor:
            for table in TABLES:
                cursor.execute(f"DROP TABLE IF EXISTS {table}")

    forget()
    yield migrate
    forget()
    migrate("drumline")
    migrate("drumline_beat")


def tables() -> set[str]:
    return TABLES & set(connection.introspection.table_names())


def rows(table: str) -> list:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT periodic_task_id FROM {table}")
        return cursor.fetchall()


def keep_an_entry_of_the_code() -> list:
    interval = IntervalSchedule.objects.create(every=1, period="hours")
    entry = PeriodicTask.objects.create(name="nightly", task="drumline.ping", interval=interval)
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO drumline_codescheduleentry (periodic_task_id) VALUES (%s)", [entry.pk])
        cursor.execute("INSERT INTO drumline_missedruns (periodic_task_id, policy) VALUES (%s, 'all')", [entry.pk])
    return [(entry.pk,)]


def grant(user, codename: str) -> None:
    user.user_permissions.add(Permission.objects.get(codename=codename))


@pytest.mark.parametrize("last", ["0003_missed_runs", "0006_runs_and_announcements"])
def test_rows_and_permissions_of_a_database_migrated_before_are_kept(migrate, last):
    migrate("drumline", last, before=True)
    entry = keep_an_entry_of_the_code()
    operator = get_user_model().objects.create_user("ada")
    grant(operator, "change_missedruns")

    migrate("drumline")
    migrate("drumline_beat")

    assert rows("drumline_codescheduleentry") == rows("drumline_missedruns") == entry
    assert MissedRuns.objects.get().policy == "all"
    assert get_user_model().objects.get().get_all_permissions() == {"drumline_beat.change_missedruns"}


def test_the_release_before_finds_its_tables_and_permissions_when_the_migration_is_reversed(migrate):
    migrate("drumline", before=True)
    entry = keep_an_entry_of_the_code()
    grant(get_user_model().objects.create_user("ada"), "change_missedruns")
    migrate("drumline")
    migrate("drumline_beat")

    migrate("drumline_beat", "zero")
    assert rows("drumline_codescheduleentry") == rows("drumline_missedruns") == entry
    assert get_user_model().objects.get().get_all_permissions() == {"drumline.change_missedruns"}

    migrate("drumline", before=True)
    migrate("drumline")
    migrate("drumline_beat")
    assert rows("drumline_codescheduleentry") == rows("drumline_missedruns") == entry


def test_a_fresh_database_gets_the_tables_and_reversing_removes_them(migrate):
    migrate("drumline")
    assert tables() == set()
    migrate("drumline_beat")
    assert tables() == TABLES
    migrate("drumline_beat", "zero")
    assert tables() == set()


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has no rolling deployments")
def test_processes_of_the_release_before_insert_rows_without_a_new_column(migrate):
    migrate("drumline")
    with connection.cursor() as cursor:
        cursor.execute("""SELECT table_name, column_name FROM information_schema.columns
            WHERE column_default IS NOT NULL AND is_identity = 'NO' AND table_name LIKE 'drumline_%'""")
        assert set(cursor.fetchall()) == {("drumline_ledger", "run"), ("drumline_worker", "process")}


def test_no_model_differs_from_the_migrations(db):  # noqa: ARG001  it opens the database
    call_command("makemigrations", "drumline", "drumline_beat", "--check", "--dry-run", verbosity=0)
