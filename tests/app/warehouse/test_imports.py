"""A CSV file from its upload to its movements: all of it at once, or nothing and a reason."""

import io
from datetime import timedelta
from decimal import Decimal
from unittest import mock

import pytest
from celery import current_app
from celery.exceptions import Retry
from django.contrib.auth import get_user_model
from django.db import DatabaseError, OperationalError, transaction
from django.db.models import ProtectedError
from django.utils import timezone

from apps.warehouse import parsing, tasks
from apps.warehouse.models import CsvChunk, CsvImport, CsvPiece, Movement, RejectedRow, StagedMovement
from apps.warehouse.services import imports
from drumline.ledger import recovery as ledger
from drumline.models import DurableTask
from drumline.relay.announcements import announce_ends

State = CsvImport.State
HEADER = b"reference,sku,quantity,amount,currency,date\n"
SPLIT, CHUNK, AGGREGATE, CLEAN = (
    f"warehouse.{name}" for name in ("split_import", "process_chunk", "aggregate_results", "clean_import")
)

pytestmark = pytest.mark.django_db


def line(number, *, currency=b"EUR", amount=b"2.50", reference=b"R-%d"):
    return reference % number + b",SKU-1,3," + amount + b"," + currency + b",2026-11-23\n"


def csv_file(rows):
    return HEADER + b"".join(line(number) for number in range(rows))


@pytest.fixture
def small_chunks(monkeypatch):
    """A chunk of some ten rows."""
    parts = parsing.parts
    monkeypatch.setattr(parsing, "parts", lambda pieces: parts(pieces, size=300))
    monkeypatch.setattr(parsing, "RECORD", 200)


@pytest.fixture
def receive(user):
    def receive(data, owner=user):
        return imports.import_receive(owner_id=owner.pk, upload=io.BytesIO(data), size=len(data))

    return receive


@pytest.fixture
def imported(receive, run_all):
    """Import a file to its end, whichever it is."""

    def imported(data, **how):
        csv_import = receive(data, **how)
        run_all()
        csv_import.refresh_from_db()
        return csv_import

    return imported


def rejects(csv_import):
    return list(csv_import.rejects.order_by("line").values_list("line", "reason"))


def nothing_left(csv_import):
    rows = (CsvPiece.objects, StagedMovement.objects)
    return not any(row.filter(csv_import=csv_import).exists() for row in rows)


@pytest.mark.usefixtures("small_chunks")
def test_a_file_becomes_movements_chunk_by_chunk(imported, user):
    csv_import = imported(csv_file(50) + line(50, currency=b"SEK", amount=b"-7.05"))
    assert (csv_import.state, csv_import.error, csv_import.loaded) == (State.LOADED, "", 51)
    assert csv_import.chunk_count == csv_import.chunks.filter(done_at__isnull=False).count() > 3
    assert csv_import.totals == {
        "EUR": {"movements": 50, "quantity": 150, "amount": "125.00"},
        "SEK": {"movements": 1, "quantity": 3, "amount": "-7.05"},
    }
    assert Movement.objects.count() == 51
    movement = Movement.objects.get(reference="R-50")
    assert (movement.owner, movement.csv_import, movement.line) == (user, csv_import, 52)
    assert (movement.amount, movement.currency) == (Decimal("-7.05"), "SEK")
    assert nothing_left(csv_import)
    assert csv_import.ended_at is not None


@pytest.mark.usefixtures("small_chunks")
def test_nothing_is_visible_until_every_chunk_is_read(receive, run, waiting):
    receive(csv_file(50))
    assert waiting() == [SPLIT]
    run(SPLIT)
    assert set(waiting()) == {CHUNK}
    run(CHUNK)
    assert not Movement.objects.exists()
    assert StagedMovement.objects.count() == 50
    assert waiting() == [AGGREGATE]
    run(AGGREGATE)
    assert Movement.objects.count() == 50


def test_an_upload_is_kept_in_pieces_and_read_from_them(imported, monkeypatch):
    monkeypatch.setattr(imports, "PIECE", 1000)
    with mock.patch.object(imports, "import_clean"):
        csv_import = imported(csv_file(100))
    assert csv_import.pieces.count() == 4
    assert b"".join(bytes(piece.data) for piece in csv_import.pieces.order_by("start")) == csv_file(100)
    assert csv_import.loaded == 100


@pytest.mark.parametrize("body", [b"", b"\r\n"], ids=["header alone", "blank lines"])
def test_a_file_without_rows_is_loaded_and_has_none(imported, body):
    csv_import = imported(HEADER + body)
    assert (csv_import.state, csv_import.loaded, csv_import.totals) == (State.LOADED, 0, {})


def test_refused_rows_are_reported_by_line_and_the_others_loaded(imported):
    data = parsing.BOM + csv_file(2).replace(b"\n", b"\r\n")
    data += b"R-7,S,0,1,EUR,2026-11-23\r\n=1,S,1,1,EUR,2026-11-23\r\n\r\n" + b'"R\n8",S,1,1,EUR,2026-11-23\r\n'
    data += b"R-\xe9,S,1,1,EUR,2026-11-23\r\n" + line(9)
    csv_import = imported(data)
    assert csv_import.loaded == 3
    assert [line for line, _ in rejects(csv_import)] == [4, 5, 7, 9]
    assert [reason.split(":")[0] for _, reason in rejects(csv_import)] == [
        "quantity",
        "reference",
        "reference",
        "not UTF-8",
    ]
    assert rejects(csv_import)[2][1].endswith("(a record of 2 lines)")
    assert Movement.objects.get(reference="R-9").line == 10


def test_of_many_refused_rows_some_are_remembered_and_all_counted(imported, monkeypatch):
    monkeypatch.setattr(imports, "REJECTS", 3)
    csv_import = imported(csv_file(1) + b"x\n" * 10)
    assert csv_import.chunks.get().rejected == 10
    assert [line for line, _ in rejects(csv_import)] == [3, 4, 5]


@pytest.mark.usefixtures("small_chunks")
def test_a_reference_that_comes_twice_is_loaded_once_and_reported_by_line(imported):
    csv_import = imported(csv_file(40) + line(0, amount=b"9") + line(0, amount=b"10") + line(39))
    assert (csv_import.loaded, csv_import.duplicates) == (40, 3)
    assert rejects(csv_import) == [
        (42, "reference: the same as on line 2"),
        (43, "reference: the same as on line 2"),
        (44, "reference: the same as on line 41"),
    ]
    assert Movement.objects.get(reference="R-0").amount == Decimal("2.50")


def test_a_reference_that_was_loaded_before_is_reported_with_its_import(imported):
    first = imported(csv_file(2))
    second = imported(csv_file(3))
    assert (second.loaded, second.duplicates, second.state) == (1, 2, State.LOADED)
    assert rejects(second) == [(line, f"reference: loaded before, by import {first.pk}") for line in (2, 3)]
    assert Movement.objects.count() == 3


def test_of_many_duplicates_some_are_remembered_and_all_counted(imported, monkeypatch):
    monkeypatch.setattr(imports, "DUPLICATES_KEPT", 2)
    csv_import = imported(csv_file(1) + line(0) * 5)
    assert csv_import.duplicates == 5
    assert [line for line, _ in rejects(csv_import)] == [3, 4]


def test_references_of_two_people_have_nothing_to_do_with_each_other(imported):
    bob = get_user_model().objects.create_user("bob@example.com", "difference engine no. 2")
    assert imported(csv_file(2)).loaded == imported(csv_file(2), owner=bob).loaded == 2


@pytest.mark.usefixtures("small_chunks")
def test_a_file_that_cannot_be_cut_fails_with_the_reason_and_is_no_dead_task(imported):
    csv_import = imported(b"reference;sku\n" + csv_file(3))
    assert (csv_import.state, csv_import.chunk_count) == (State.FAILED, 0)
    assert csv_import.error.startswith("line 1: the header must be reference,sku,quantity")
    assert nothing_left(csv_import)


@pytest.fixture
def broken_chunk(receive, run):
    """An import of five chunks, of which the third holds a line that is too long."""
    rows = [line(number) for number in range(50)]
    rows[25] = b"x" * 250 + b"\n"
    csv_import = receive(HEADER + b"".join(rows))
    run(SPLIT)
    return csv_import


@pytest.mark.usefixtures("small_chunks")
def test_a_failing_chunk_fails_the_import_and_says_which_and_where_and_why(broken_chunk, run_all, waiting):
    run_all()
    broken_chunk.refresh_from_db()
    chunk = broken_chunk.chunks.exclude(error="").get()
    assert broken_chunk.state == State.FAILED
    assert broken_chunk.error == (
        f"chunk {chunk.number} of {broken_chunk.chunk_count}, from line {chunk.first_line} on: "
        "line 27: a record of more than 200 bytes"
    )
    assert not Movement.objects.exists()
    assert nothing_left(broken_chunk)
    assert waiting() == []
    assert not DurableTask.objects.filter(name=AGGREGATE).exists()


@pytest.mark.usefixtures("small_chunks")
def test_chunks_of_a_failed_import_are_not_read(broken_chunk, run_all):
    with mock.patch.object(parsing, "records", wraps=parsing.records) as read:
        run_all()
    failed = broken_chunk.chunks.exclude(error="").get()
    assert read.call_count == failed.number < broken_chunk.chunks.count()


@pytest.mark.usefixtures("small_chunks")
def test_the_first_of_two_failing_chunks_is_named_whichever_ends_first(receive, run):
    csv_import = receive(csv_file(50))
    run(SPLIT)
    first, *_, last = csv_import.chunks.order_by("number")
    imports.import_fail(import_id=csv_import.pk, error="ChordError: one of them", chunk_id=None)
    for chunk in (last, first):
        imports.import_fail(import_id=csv_import.pk, error=f"reason {chunk.number}", chunk_id=chunk.pk)
    imports.import_fail(import_id=csv_import.pk, error="ChordError: one of them", chunk_id=None)
    csv_import.refresh_from_db()
    assert csv_import.error == f"chunk 1 of {csv_import.chunk_count}, from line 2 on: reason 1"


@pytest.mark.usefixtures("small_chunks")
def test_a_chunk_whose_process_dies_for_good_fails_the_import(receive, run, run_all):
    csv_import = receive(csv_file(50))
    run(SPLIT)
    row = DurableTask.objects.filter(name=CHUNK).order_by("created_at").last()
    worker = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
    DurableTask.objects.filter(pk=row.pk).update(state=DurableTask.State.RUNNING, worker_id=worker, attempt=3)
    ledger.task_lost(row.pk, worker_id=worker, error="signal 9 (SIGKILL)")
    announce_ends()
    run_all()
    csv_import.refresh_from_db()
    assert csv_import.state == State.FAILED
    assert "on: WorkerLostError: signal 9 (SIGKILL)" in csv_import.error
    assert nothing_left(csv_import)


def test_an_aggregate_that_fails_leaves_nothing_and_fails_the_import(receive, run, run_all):
    csv_import = receive(csv_file(5) + line(0))
    run(SPLIT)
    run(CHUNK)
    with mock.patch.object(imports, "_duplicates", side_effect=RuntimeError("no room")):
        run(AGGREGATE)
    run_all()
    csv_import.refresh_from_db()
    assert (csv_import.state, csv_import.error, csv_import.loaded) == (State.FAILED, "RuntimeError: no room", 0)
    assert not Movement.objects.exists()
    assert nothing_left(csv_import)


def test_a_split_that_fails_fails_the_import(receive, run_all):
    with mock.patch.object(parsing, "parts", side_effect=RuntimeError("no room")):
        csv_import = receive(csv_file(5))
        run_all()
    csv_import.refresh_from_db()
    assert (csv_import.state, csv_import.error) == (State.FAILED, "RuntimeError: no room")


def test_an_upload_that_is_cut_off_leaves_nothing(user, waiting):
    with pytest.raises(imports.UploadCutOffError, match="44 bytes of 100 arrived"), transaction.atomic():
        imports.import_receive(owner_id=user.pk, upload=io.BytesIO(HEADER), size=100)
    assert not CsvImport.objects.exists()
    assert not CsvPiece.objects.exists()
    assert waiting() == []


@pytest.mark.usefixtures("no_ledger")
def test_nothing_is_received_that_cannot_be_sent_on(receive):
    with pytest.raises(DatabaseError):
        receive(csv_file(5))
    assert not CsvImport.objects.exists()
    assert not CsvPiece.objects.exists()


@pytest.mark.usefixtures("small_chunks")
def test_a_file_whose_chunks_cannot_be_sent_stays_whole(receive, request):
    csv_import = receive(csv_file(40))
    request.getfixturevalue("no_ledger")
    with pytest.raises(DatabaseError):
        imports.import_split(import_id=csv_import.pk)
    csv_import.refresh_from_db()
    assert csv_import.state == State.RECEIVED
    assert not CsvChunk.objects.exists()


def test_an_import_that_cannot_be_cleaned_has_not_failed(receive, request):
    csv_import = receive(csv_file(5))
    request.getfixturevalue("no_ledger")
    with pytest.raises(DatabaseError):
        imports.import_fail(import_id=csv_import.pk, error="no room")
    csv_import.refresh_from_db()
    assert csv_import.state == State.RECEIVED


@pytest.mark.usefixtures("small_chunks")
def test_a_task_that_runs_again_changes_nothing(receive, run, run_all, waiting):
    csv_import = receive(csv_file(50))
    run(SPLIT)
    chunks = csv_import.chunks.count()
    tasks.split_import(csv_import.pk)
    assert (csv_import.chunks.count(), len(waiting())) == (chunks, chunks)
    for chunk in csv_import.chunks.all():
        tasks.process_chunk(chunk.pk)
        tasks.process_chunk(chunk.pk)
    assert StagedMovement.objects.count() == 50
    run_all()
    tasks.aggregate_results(csv_import.pk)
    tasks.clean_import(csv_import.pk)
    for chunk in csv_import.chunks.all():
        tasks.process_chunk(chunk.pk)
    csv_import.refresh_from_db()
    assert (csv_import.loaded, Movement.objects.count(), StagedMovement.objects.count()) == (50, 50, 0)


@pytest.mark.usefixtures("small_chunks")
def test_two_runs_of_one_chunk_at_the_same_moment_stage_it_once(receive, run):
    csv_import = receive(csv_file(50))
    run(SPLIT)
    chunk = csv_import.chunks.first()
    read = parsing.records

    def meanwhile(*args):
        monkey.stop()
        tasks.process_chunk(chunk.pk)
        return read(*args)

    monkey = mock.patch.object(parsing, "records", side_effect=meanwhile)
    monkey.start()
    tasks.process_chunk(chunk.pk)
    chunk.refresh_from_db()
    assert StagedMovement.objects.count() == chunk.staged > 0


@pytest.mark.usefixtures("small_chunks")
def test_an_aggregate_that_is_sent_too_early_by_hand_loads_no_half(receive, run, run_all):
    csv_import = receive(csv_file(50))
    run(SPLIT)
    tasks.process_chunk(csv_import.chunks.first().pk)
    tasks.aggregate_results(csv_import.pk)
    assert not Movement.objects.exists()
    run_all()
    assert Movement.objects.count() == 50


def test_what_is_loaded_cannot_fail_nor_be_cleaned_too_early(receive, run_all):
    csv_import = receive(csv_file(5))
    imports.import_clean(import_id=csv_import.pk)
    run_all()
    imports.import_fail(import_id=csv_import.pk, error="too late")
    csv_import.refresh_from_db()
    assert (csv_import.state, csv_import.loaded) == (State.LOADED, 5)


@pytest.mark.parametrize("name", [SPLIT, CHUNK, AGGREGATE, CLEAN])
def test_a_database_that_is_away_is_tried_again_five_times(name, monkeypatch):
    for service in ("import_split", "chunk_process", "import_load", "import_clean"):
        monkeypatch.setattr(imports, service, mock.Mock(side_effect=OperationalError("away")))
    task = current_app.tasks[name]
    assert (task.max_retries, task.retry_backoff_max) == (5, 600)
    task.push_request(called_directly=False, retries=4)
    try:
        with mock.patch.object(task, "retry", side_effect=Retry) as retry, pytest.raises(Retry):
            task.run(1)
    finally:
        task.pop_request()
    assert 0 <= retry.call_args.kwargs["countdown"] <= 16
    task.push_request(called_directly=False, retries=5, args=(1,), kwargs={})
    try:
        with pytest.raises(OperationalError):
            task.run(1)
    finally:
        task.pop_request()


def test_an_unknown_chunk_fails():
    with pytest.raises(CsvChunk.DoesNotExist):
        tasks.process_chunk(7)


def test_an_import_that_does_not_end_fails_after_a_week(receive, run_all):
    old, young = receive(csv_file(1)), receive(csv_file(1))
    DurableTask.objects.all().delete()
    CsvImport.objects.filter(pk=old.pk).update(received_at=timezone.now() - timedelta(days=7, minutes=1))
    assert tasks.cleanup_imports() == 1
    run_all()
    old.refresh_from_db()
    assert (old.state, old.error) == (State.FAILED, "it did not finish within 7 days")
    assert nothing_left(old)
    assert CsvPiece.objects.filter(csv_import=young).exists()


def test_a_failed_import_is_deleted_after_a_month_and_of_a_loaded_one_the_report(imported):
    imported(b"x")
    loaded = imported(csv_file(1) + b"x\n")
    CsvImport.objects.update(ended_at=timezone.now() - timedelta(days=30, minutes=1))
    failed_since, loaded_since = imported(b"x"), imported(b"".join((HEADER, line(1), b"x\n")))
    assert tasks.cleanup_imports() == 1
    assert set(CsvImport.objects.all()) == {loaded, failed_since, loaded_since}
    assert Movement.objects.filter(csv_import=loaded).exists()
    assert {reject.csv_import for reject in RejectedRow.objects.all()} == {loaded_since}


def test_what_was_staged_after_its_imports_end_is_deleted(imported):
    failed = imported(b"x")
    StagedMovement.objects.create(
        csv_import=failed, line=2, reference="R", sku="S", quantity=1, amount=1, currency="EUR", date=timezone.now()
    )
    assert tasks.cleanup_imports() == 0
    assert not StagedMovement.objects.exists()


def test_an_account_with_imports_cannot_be_deleted(imported, user):
    imported(csv_file(1))
    with pytest.raises(ProtectedError):
        user.delete()
    assert Movement.objects.exists()
