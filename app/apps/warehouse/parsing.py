"""Reading CSV that comes from anybody, in bounded memory.

A file is cut into parts of whole records without reading them, and each part is read by itself. Both go by one rule: a
record ends at a line feed with an even number of quotes before it, as RFC 4180 has it. No record is longer than
RECORD bytes, so that a line without an end, or a quote without its fellow, is refused after that many.
"""

import csv
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from itertools import chain
from typing import Any, NamedTuple

HEADER = ("reference", "sku", "quantity", "amount", "currency", "date")
CURRENCIES = {"CHF", "DKK", "EUR", "GBP", "NOK", "PLN", "SEK", "USD"}
QUANTITY_MAX = 1_000_000
FIRST_DATE, LAST_DATE = date(2000, 1, 1), date(2099, 12, 31)

# Bytes that a record may have, its line end included.
RECORD = 4096
# Bytes of a part: some five thousand rows, a fraction of a second's work and a few megabytes of memory.
PART = 262_144
BOM = b"\xef\xbb\xbf"
# What makes a spreadsheet run a cell instead of showing it.
FORMULA = ("=", "+", "-", "@", "\t", "\r")


class FileRefusedError(Exception):
    """The file, or what follows in it, cannot be read; says from which line on, and why."""


class RowRefusedError(ValueError):
    """A row is not what it should be; says why. Those after it can be read nevertheless."""


class Row(NamedTuple):
    """What a record says."""

    reference: str
    sku: str
    quantity: int
    amount: Decimal
    currency: str
    date: date


@dataclass(frozen=True, slots=True)
class Part:
    """Whole records of a file: from byte `start` up to, and without, byte `end`."""

    start: int
    end: int
    first_line: int


def parts(pieces: Iterable[bytes], *, size: int = PART) -> Iterator[Part]:
    """Cut a file, which comes in pieces of any length, into parts of about `size` bytes, without its header.

    Raise FileRefusedError for a bad header, or where a record has no end.
    """
    buffer, coming = bytearray(), iter(pieces)
    while len(buffer) < RECORD and (piece := next(coming, b"")):
        buffer += piece
    start, line = _header_end(buffer), 2
    del buffer[:start]
    for piece in chain((b"",), coming):
        buffer += piece
        while len(buffer) >= size + RECORD:
            end = _record_end(buffer, size, line)
            yield Part(start, start + end, line)
            start, line = start + end, line + buffer.count(b"\n", 0, end)
            del buffer[:end]
    if buffer:
        yield Part(start, start + len(buffer), line)


def _header_end(buffer: bytearray) -> int:
    """Check the first line, and return where it ends."""
    end = buffer.find(b"\n", 0, RECORD) + 1 or min(len(buffer), RECORD)
    line = bytes(buffer[:end]).removeprefix(BOM).removesuffix(b"\n").removesuffix(b"\r")
    wanted = ",".join(HEADER)
    if line != wanted.encode():
        found = line[:100].decode(errors="replace")
        raise FileRefusedError(f"line 1: the header must be {wanted} in UTF-8; it is {found!r}")
    return end


def _record_end(buffer: bytearray, near: int, line: int) -> int:
    """Return the first end of a record after `near`."""
    quotes, position = buffer.count(b'"', 0, near), near
    while (end := buffer.find(b"\n", position, near + RECORD)) >= 0:
        quotes += buffer.count(b'"', position, end)
        position = end + 1
        if quotes % 2 == 0:
            return position
    line += buffer.count(b"\n", 0, near)
    raise FileRefusedError(f"line {line}: a record of more than {RECORD} bytes, or a quote that is never closed")


def records(data: bytes, first_line: int) -> Iterator[tuple[int, bytes]]:
    """Return each record of a part, without blank lines, with the line where it begins.

    Raise FileRefusedError where a record is too long.
    """
    record, quotes, begin = b"", 0, first_line
    for number, line in enumerate(data.split(b"\n"), first_line):
        record = record + b"\n" + line if quotes % 2 else line
        quotes += line.count(b'"')
        if len(record) >= RECORD:
            raise FileRefusedError(f"line {begin}: a record of more than {RECORD} bytes")
        if quotes % 2 == 0:
            if record not in {b"", b"\r"}:
                yield begin, record
            begin = number + 1
    if quotes % 2:
        yield begin, record


def read_row(record: bytes) -> Row:
    """Return what a record says, or raise RowRefusedError."""
    if b"\0" in record:
        raise RowRefusedError("a NUL byte")
    try:
        cells = next(csv.reader((record.decode(),), strict=True))
    except UnicodeDecodeError as error:
        raise RowRefusedError("not UTF-8") from error
    except csv.Error as error:
        raise RowRefusedError("quotes or line ends are not where CSV has them") from error
    if len(cells) != len(HEADER):
        raise RowRefusedError(f"{len(cells)} columns instead of {len(HEADER)}")
    return Row(
        _text("reference", cells[0]),
        _text("sku", cells[1]),
        _quantity(cells[2]),
        _amount(cells[3]),
        _currency(cells[4]),
        _date(cells[5]),
    )


Match = Callable[[str], Any]
CODE: Match = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,39}").fullmatch
WHOLE: Match = re.compile(r"-?[0-9]{1,9}").fullmatch
MONEY: Match = re.compile(r"-?[0-9]{1,10}(\.[0-9]{1,2})?").fullmatch
ISO_DATE: Match = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}").fullmatch


def _text(column: str, cell: str) -> str:
    if not CODE(cell):
        if cell.startswith(FORMULA):
            raise RowRefusedError(f"{column}: begins like a spreadsheet's formula, with {cell[0]!r}")
        raise RowRefusedError(f"{column}: 1 to 40 letters, digits and ._/- are needed, the first a letter or digit")
    return cell


def _quantity(cell: str) -> int:
    if not WHOLE(cell) or not 0 < abs(int(cell)) <= QUANTITY_MAX:
        raise RowRefusedError(f"quantity: a whole number up to {QUANTITY_MAX}, not 0, is needed")
    return int(cell)


def _amount(cell: str) -> Decimal:
    if not MONEY(cell):
        raise RowRefusedError("amount: a number like -1234.50 with at most 10 digits before the point is needed")
    return Decimal(cell)


def _currency(cell: str) -> str:
    if cell not in CURRENCIES:
        raise RowRefusedError(f"currency: one of {', '.join(sorted(CURRENCIES))} is needed")
    return cell


def _date(cell: str) -> date:
    try:
        day = date.fromisoformat(cell) if ISO_DATE(cell) else None
    except ValueError:
        day = None
    if day is None or not FIRST_DATE <= day <= LAST_DATE:
        raise RowRefusedError(f"date: a day like 2026-11-23 from {FIRST_DATE} to {LAST_DATE} is needed")
    return day
