"""Reading the warehouse, and what it is fed from."""

from collections.abc import Iterator
from datetime import date, datetime, time, timedelta

from django.db.models import CharField, Count, F, Q, QuerySet, Sum, Value
from django.db.models.functions import Concat
from django.utils import timezone

from apps.notifications.models import Email
from apps.users.models import User
from apps.warehouse.models import CsvChunk, CsvImport, CsvPiece, RejectedRow


def yesterday() -> date:
    """Return the last day that is over where the site is."""
    return timezone.localdate() - timedelta(days=1)


def day_bounds(day: date) -> tuple[datetime, datetime]:
    """Return when a day begins where the site is, and when the next one does: after 23, 24 or 25 hours."""
    begin, end = (datetime.combine(each, time.min) for each in (day, day + timedelta(days=1)))
    return timezone.make_aware(begin), timezone.make_aware(end)


def events_of(*, day: date) -> Iterator[tuple[str, datetime]]:
    """Return what happened on a day, each as a measure and a time: accounts created and e-mails sent."""
    begin, end = day_bounds(day)
    accounts = User.objects.filter(created_at__gte=begin, created_at__lt=end)
    emails = Email.objects.filter(sent_at__gte=begin, sent_at__lt=end)
    sign_ups = accounts.values_list(Value("sign_ups", CharField()), "created_at")
    return sign_ups.union(emails.values_list(Concat(Value("emails."), "kind"), "sent_at"), all=True).iterator()


def imports_of(*, owner_id: int) -> QuerySet[CsvImport]:
    """Return somebody's imports, the latest first, each with how far it is."""
    mine = CsvImport.objects.filter(owner_id=owner_id).order_by("-pk")
    staged, rejected = Sum("chunks__staged", default=0), Sum("chunks__rejected", default=0)
    return mine.annotate(
        chunks_done=Count("chunks", filter=Q(chunks__done_at__isnull=False)),
        rows=staged + rejected,
        rejected=rejected + F("duplicates"),
    )


def rejects_of(*, import_id: int, after_line: int, limit: int) -> QuerySet[RejectedRow]:
    """Return the next refused rows of an import, by line."""
    return RejectedRow.objects.filter(csv_import_id=import_id, line__gt=after_line).order_by("line")[:limit]


def pieces_of(*, import_id: int) -> Iterator[bytes]:
    """Return the bytes of an upload, piece by piece."""
    pieces = CsvPiece.objects.filter(csv_import_id=import_id).order_by("start").values_list("data", flat=True)
    # One at a time: a piece is large.
    return (bytes(data) for data in pieces.iterator(chunk_size=1))


def chunk_bytes(chunk: CsvChunk) -> bytes:
    """Return what a chunk holds, from the pieces that it lies in."""
    pieces = CsvPiece.objects.filter(csv_import_id=chunk.csv_import_id, start__lt=chunk.end, end__gt=chunk.start)
    return b"".join(
        bytes(data)[max(chunk.start - start, 0) : chunk.end - start]
        for start, data in pieces.order_by("start").values_list("start", "data")
    )
