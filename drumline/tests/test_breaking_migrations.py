"""What an unapplied migration takes from the release that runs is named before it is applied."""

import pytest
from django.db import connection, models
from django.db.migrations import (
    AddField,
    AlterField,
    AlterModelTable,
    CreateModel,
    DeleteModel,
    RemoveField,
    RenameField,
    RenameModel,
    RunSQL,
    SeparateDatabaseAndState,
)
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder

from drumline.preflight import migrations

pytestmark = pytest.mark.django_db

MODELS = [
    CreateModel(
        "Author",
        [
            ("id", models.BigAutoField(primary_key=True)),
            ("name", models.CharField(max_length=20)),
            ("nickname", models.CharField(max_length=20, null=True)),
        ],
    ),
    CreateModel(
        "Book",
        [
            ("id", models.BigAutoField(primary_key=True)),
            ("author", models.ForeignKey("library.Author", models.CASCADE)),
            ("readers", models.ManyToManyField("library.Author", related_name="reads")),
        ],
    ),
    CreateModel("Classic", [], {"proxy": True}, bases=("library.Book",)),
]
TEXT = models.CharField(max_length=20)


@pytest.fixture
def found(monkeypatch):
    """What is said of operations that are not applied, over models that are, unless there are none yet."""

    def run(*operations, applied=True):
        build = MigrationLoader.build_graph

        def with_library(loader):
            build(loader)
            before = None
            for name, steps in (("0001_initial", MODELS), ("0002_next", operations)):
                migration = type("Migration", (migrations.Migration,), {"operations": list(steps)})(name, "library")
                loader.graph.add_node(("library", name), migration)
                if before:
                    loader.graph.add_dependency(migration, ("library", name), ("library", before))
                before = name

        monkeypatch.setattr(MigrationLoader, "build_graph", with_library)
        if applied:
            MigrationRecorder(connection).record_applied("library", "0001_initial")
        return [line.removeprefix("library.0002_next ") for line in migrations.breaking_migrations()]

    return run


NO_DEFAULT = "which must have a value and has no default in the database"


@pytest.mark.parametrize(
    ("operation", "said"),
    [
        (RemoveField("author", "name"), "removes or renames the column library_author.name"),
        (RemoveField("book", "author"), "removes or renames the column library_book.author_id"),
        (RenameField("author", "name", "title"), "removes or renames the column library_author.name"),
        (
            AlterField("author", "name", models.CharField(max_length=20, db_column="title")),
            "removes or renames the column library_author.name",
        ),
        (RemoveField("book", "readers"), "removes or renames the table library_book_readers"),
        (RenameModel("Author", "Writer"), "removes or renames the table library_author"),
        (AlterModelTable("author", "writers"), "removes or renames the table library_author"),
        (AddField("author", "title", TEXT), f"adds the column library_author.title, {NO_DEFAULT}"),
        (
            AddField("author", "title", models.CharField(max_length=20, default="Dr.")),
            f"adds the column library_author.title, {NO_DEFAULT}",
        ),
        (AlterField("author", "nickname", TEXT), "no longer allows NULL in the column library_author.nickname"),
        (
            SeparateDatabaseAndState(database_operations=[RemoveField("author", "name")]),
            "removes or renames the column library_author.name",
        ),
    ],
    ids=str,
)
def test_what_the_running_release_uses_and_a_migration_changes_is_named(found, operation, said):
    assert said in found(operation)


def test_a_table_that_goes_is_one_line_and_so_is_that_between_two_models(found):
    assert found(DeleteModel("Classic"), DeleteModel("Book")) == [
        "removes or renames the table library_book",
        "removes or renames the table library_book_readers",
    ]


@pytest.mark.parametrize(
    "operations",
    [
        [AddField("author", "title", models.CharField(max_length=20, null=True))],
        [AddField("author", "friends", models.ManyToManyField("library.Author"))],
        [AlterField("author", "name", models.CharField(max_length=20, null=True))],
        [CreateModel("Shelf", [("id", models.BigAutoField(primary_key=True))]), AddField("shelf", "name", TEXT)],
        [CreateModel("Shelf", [("id", models.BigAutoField(primary_key=True))]), DeleteModel("Shelf")],
        [DeleteModel("Classic")],
        # Expand and contract: first the model loses the column, in the release after it the table does.
        [SeparateDatabaseAndState(state_operations=[RemoveField("author", "nickname")])],
        [
            SeparateDatabaseAndState(state_operations=[RemoveField("author", "nickname")]),
            RunSQL("ALTER TABLE library_author DROP COLUMN nickname"),
        ],
    ],
    ids=lambda operations: ", ".join(map(str, operations)),
)
def test_what_old_code_can_live_with_is_not(found, operations):
    assert found(*operations) == []


@pytest.mark.skipif(not hasattr(models.Field, "db_default") and not hasattr(TEXT, "db_default"), reason="Django 5.0")
def test_a_column_that_the_database_fills_is_not_named(found):
    assert found(AddField("author", "title", models.CharField(max_length=20, db_default="Dr."))) == []


def test_a_database_that_no_release_has_used_has_nothing_to_lose(found):
    assert found(RemoveField("author", "name"), applied=False) == []
