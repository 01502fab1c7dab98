"""CSV files of stock movements, read by a chord of chunks.

An upload is kept in pieces, cut into chunks of whole records, staged chunk by chunk, and shown in one transaction once
every chunk is staged. Ids alone go through the broker.
"""

import shutil
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol

import structlog
from celery import chord, signature
from django.conf import settings
from django.db import connection, transaction
from django.db.models import Count, Q, Sum
from django.utils import timezone

from apps.warehouse import parsing
from apps.warehouse.bulk import rows_insert
from apps.warehouse.models import CsvChunk, CsvImport, CsvPiece, RejectedRow, StagedMovement
from apps.warehouse.selectors import chunk_bytes, pieces_of

if TYPE_CHECKING:
    from celery.canvas import Signature

logger = structlog.get_logger(__name__)

State = CsvImport.State
ENDED = (State.LOADED, State.FAILED)

# Bytes of an upload that are kept in one row, and are in memory at once.
PIECE = 1_000_000
# Refused rows that are remembered one by one: of each chunk, and of an import's duplicates.
REJECTS, DUPLICATES_KEPT = 100, 1000
# How long an import may take, and how long one that failed, and what was refused of one that did not, can be looked at.
PATIENCE, KEPT = timedelta(days=7), timedelta(days=30)
COLUMNS = ("line", *parsing.HEADER)

# Rows come in the order of their references, so that two imports at once cannot wait for each other; of two rows with
# one reference the first line wins.
LOAD = f"""INSERT INTO warehouse_movement (owner_id, csv_import_id, {", ".join(COLUMNS)})
    SELECT %s, csv_import_id, {", ".join(COLUMNS)} FROM warehouse_stagedmovement WHERE csv_import_id = %s
    ORDER BY reference, line ON CONFLICT (owner_id, reference) DO NOTHING"""  # noqa: S608  constants only
DUPLICATES = """SELECT staged.line, there.csv_import_id, there.line FROM warehouse_stagedmovement AS staged
    JOIN warehouse_movement AS there ON there.owner_id = %s AND there.reference = staged.reference
    WHERE staged.csv_import_id = %s AND (there.csv_import_id, there.line) <> (staged.csv_import_id, staged.line)
    ORDER BY staged.line LIMIT %s"""


class ChunkError(Exception):
    """A chunk cannot be read; says from which line on, and why."""


class NoRoomError(Exception):
    """A file does not fit into what is left of a quota, or of the disk; says which."""


class UploadCutOffError(Exception):
    """The connection ended before the upload did."""


class Readable(Protocol):
    """What an upload is read from."""

    def read(self, size: int, /) -> bytes:
        """Return the next bytes, and none at the end."""


def room_check(*, owner_id: int, size: int) -> None:
    """Raise NoRoomError when a file of that many bytes does not fit.

    Files that arrive at the same moment are not seen yet: a quota is exceeded by as much at the most.
    """
    kept = CsvImport.objects.exclude(state=State.FAILED)
    sums = kept.aggregate(own=Sum("size", filter=Q(owner_id=owner_id), default=0), everybodys=Sum("size", default=0))
    if sums["own"] + size > settings.IMPORTS_QUOTA:
        left = max(settings.IMPORTS_QUOTA - sums["own"], 0)
        raise NoRoomError(f"The account may still import {left} bytes of its {settings.IMPORTS_QUOTA}.")
    free = shutil.disk_usage(settings.BASE_DIR).free
    if sums["everybodys"] + size > settings.IMPORTS_CEILING or free - size < settings.IMPORTS_DISK_RESERVE:
        logger.error("import_refused", reason="no room", size=size, imported=sums["everybodys"], disk_free=free)
        raise NoRoomError("The site has no room for imports at the moment.")


@transaction.atomic
def import_receive(*, owner_id: int, upload: Readable, size: int) -> CsvImport:
    """Keep an upload as it arrives, a piece in memory at a time, and have it read afterwards.

    Raise UploadCutOffError when it has not as many bytes as was said; then nothing is kept.
    """
    csv_import = CsvImport.objects.create(owner_id=owner_id, size=size, received_at=timezone.now())
    rows_insert(CsvPiece, ("csv_import_id", "start", "end", "data"), _pieces(csv_import, upload))
    # As a part of the transaction, here and below: the ledger keeps a task with the data that it is about.
    _task("warehouse.split_import", csv_import.pk, import_id=csv_import.pk).apply_async()
    return csv_import


def _pieces(csv_import: CsvImport, upload: Readable) -> Iterator[tuple[int, int, int, bytes]]:
    start = 0
    while data := upload.read(PIECE):
        end = start + len(data)
        yield csv_import.pk, start, end, data
        start = end
    if start != csv_import.size:
        raise UploadCutOffError(f"{start} bytes of {csv_import.size} arrived.")


@transaction.atomic
def import_split(*, import_id: int) -> None:
    """Cut an upload into chunks and have them processed; a file that cannot be cut fails its import."""
    csv_import = _locked(import_id)
    if csv_import.state != State.RECEIVED:
        logger.info("import_split_skipped", import_id=import_id, state=csv_import.state)
        return
    try:
        parts = list(parsing.parts(pieces_of(import_id=import_id)))
    except parsing.FileRefusedError as error:
        _end(csv_import, State.FAILED, str(error))
        return
    chunks = CsvChunk.objects.bulk_create(
        CsvChunk(csv_import=csv_import, number=number, start=part.start, end=part.end, first_line=part.first_line)
        for number, part in enumerate(parts, 1)
    )
    csv_import.state, csv_import.chunk_count = State.PROCESSING, len(chunks)
    csv_import.save()
    chord(
        [_task("warehouse.process_chunk", chunk.pk, import_id=import_id, chunk_id=chunk.pk) for chunk in chunks],
        _task("warehouse.aggregate_results", import_id, import_id=import_id),
    ).apply_async()


def _task(name: str, argument: int, **failed: int) -> "Signature[Any]":
    """Return a task whose failure, whatever its cause, fails the import.

    The members of the chord have this errback as well as its body, whose own would not be told which chunk it was.
    """
    errback = signature("warehouse.fail_import", kwargs=failed)
    return signature(name, args=(argument,), immutable=True).on_error(errback)


def chunk_process(*, chunk_id: int) -> None:
    """Read a chunk and stage its rows, once; raise ChunkError when it cannot be read to its end."""
    chunk = CsvChunk.objects.select_related("csv_import").get(pk=chunk_id)
    if chunk.done_at is not None or chunk.csv_import.state != State.PROCESSING:
        logger.info("chunk_skipped", chunk_id=chunk_id, state=chunk.csv_import.state, done=chunk.done_at is not None)
        return
    rows: list[tuple[Any, ...]] = []
    rejects: list[RejectedRow] = []
    rejected = 0
    try:
        for line, record in parsing.records(chunk_bytes(chunk), chunk.first_line):
            try:
                rows.append((chunk.csv_import_id, line, *parsing.read_row(record)))
            except parsing.RowRefusedError as refusal:
                rejected += 1
                if rejected <= REJECTS:
                    rejects.append(_reject(chunk, line, record, refusal))
    except parsing.FileRefusedError as error:
        raise ChunkError(str(error)) from error
    with transaction.atomic():
        # Of two runs at the same moment the second waits here, and then finds nothing to update.
        unread = CsvChunk.objects.filter(pk=chunk_id, done_at__isnull=True)
        if unread.update(done_at=timezone.now(), staged=len(rows), rejected=rejected):
            RejectedRow.objects.bulk_create(rejects)
            rows_insert(StagedMovement, ("csv_import_id", *COLUMNS), rows)


def _reject(chunk: CsvChunk, line: int, record: bytes, refusal: Exception) -> RejectedRow:
    more = record.count(b"\n")
    reason = f"{refusal} (a record of {more + 1} lines)" if more else str(refusal)
    return RejectedRow(csv_import_id=chunk.csv_import_id, line=line, reason=reason)


@transaction.atomic
def import_load(*, import_id: int) -> None:
    """Show what every chunk has staged, all at once; what has the reference of another row is refused by its line."""
    csv_import = _locked(import_id)
    missing = csv_import.chunks.filter(done_at__isnull=True).count()
    if csv_import.state != State.PROCESSING or missing:
        logger.warning("import_load_skipped", import_id=import_id, state=csv_import.state, chunks_missing=missing)
        return
    with connection.cursor() as cursor:
        cursor.execute(LOAD, [csv_import.owner_id, import_id])
    by_currency = csv_import.movements.values_list("currency").order_by("currency")
    for currency, movements, quantity, amount in by_currency.annotate(Count("pk"), Sum("quantity"), Sum("amount")):
        csv_import.totals[currency] = {"movements": movements, "quantity": quantity, "amount": f"{amount:.2f}"}
        csv_import.loaded += movements
    staged = csv_import.chunks.aggregate(sum=Sum("staged", default=0))["sum"]
    csv_import.duplicates = staged - csv_import.loaded
    if csv_import.duplicates:
        RejectedRow.objects.bulk_create(_duplicates(csv_import))
    _end(csv_import, State.LOADED)
    logger.info("import_loaded", import_id=import_id, movements=csv_import.loaded, duplicates=csv_import.duplicates)


def _duplicates(csv_import: CsvImport) -> list[RejectedRow]:
    with connection.cursor() as cursor:
        cursor.execute(DUPLICATES, [csv_import.owner_id, csv_import.pk, DUPLICATES_KEPT])
        found = cursor.fetchall()
    return [
        RejectedRow(
            csv_import=csv_import,
            line=line,
            reason=f"reference: the same as on line {other}"
            if import_id == csv_import.pk
            else f"reference: loaded before, by import {import_id}",
        )
        for line, import_id, other in found
    ]


@transaction.atomic
def import_fail(*, import_id: int, error: str, chunk_id: int | None = None) -> None:
    """Fail an import, and say which chunk it was; what was loaded before stays loaded."""
    csv_import = _locked(import_id)
    if csv_import.state == State.LOADED:
        logger.warning("import_fail_skipped", import_id=import_id, error=error)
        return
    # The first of those that failed, in whatever order they say so; a chord's own word names none.
    if chunk_id is not None:
        csv_import.chunks.filter(pk=chunk_id).update(error=error)
    chunk = csv_import.chunks.exclude(error="").order_by("number").first()
    if chunk is not None:
        error = f"chunk {chunk.number} of {csv_import.chunk_count}, from line {chunk.first_line} on: {chunk.error}"
    _end(csv_import, State.FAILED, error)


def _locked(import_id: int) -> CsvImport:
    # Not against rows that refer to it: a chunk goes on staging meanwhile.
    return CsvImport.objects.select_for_update(no_key=True).get(pk=import_id)


def _end(csv_import: CsvImport, state: CsvImport.State, error: str = "") -> None:
    csv_import.state, csv_import.error, csv_import.ended_at = state, error, timezone.now()
    csv_import.save()
    signature("warehouse.clean_import", args=(csv_import.pk,)).apply_async()
    if error:
        logger.error("import_failed", import_id=csv_import.pk, error=error)


def import_clean(*, import_id: int) -> None:
    """Delete what an import that has ended needs no more: its upload and what it staged."""
    if CsvImport.objects.filter(pk=import_id, state__in=ENDED).exists():
        CsvPiece.objects.filter(csv_import_id=import_id).delete()
        StagedMovement.objects.filter(csv_import_id=import_id).delete()


def imports_clean() -> int:
    """Fail what does not end; delete what failed long ago, old reports, and what was staged after its import's end.

    Return how many imports failed or were deleted.
    """
    now = timezone.now()
    stuck = CsvImport.objects.exclude(state__in=ENDED).filter(received_at__lt=now - PATIENCE)
    stuck_ids = list(stuck.values_list("pk", flat=True))
    for import_id in stuck_ids:
        import_fail(import_id=import_id, error=f"it did not finish within {PATIENCE.days} days")
    # A chunk that was being staged while its import failed.
    for rows in (CsvPiece.objects, StagedMovement.objects):
        rows.filter(csv_import__state__in=ENDED).delete()
    RejectedRow.objects.filter(csv_import__ended_at__lt=now - KEPT).delete()
    old = CsvImport.objects.filter(state=State.FAILED, ended_at__lt=now - KEPT)
    old_ids = list(old.values_list("pk", flat=True))
    CsvImport.objects.filter(pk__in=old_ids).delete()
    return len(stuck_ids) + len(old_ids)
