"""CSV that comes from anybody: whatever it holds, it is read within bounds, and every row is accounted for."""

import csv
import io
import re
from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from apps.warehouse import parsing
from apps.warehouse.parsing import FileRefusedError, RowRefusedError, parts, read_row, records

HEADER = b"reference,sku,quantity,amount,currency,date\n"
GOOD = b"A-1,SKU/7,-3,-12.50,EUR,2026-11-23"

codes = st.text("Az09._/-", max_size=39).map("a".__add__)
quantities = st.integers(-parsing.QUANTITY_MAX, parsing.QUANTITY_MAX).filter(bool)
amounts = st.decimals("-9999999999.99", "9999999999.99", places=2, allow_nan=False)
rows = st.tuples(
    codes,
    codes,
    quantities,
    amounts,
    st.sampled_from(sorted(parsing.CURRENCIES)),
    st.dates(parsing.FIRST_DATE, parsing.LAST_DATE),
)
# What a file may be made of when nobody means well.
bits = st.sampled_from([b'"', b"\n", b"\r\n", b",", b"x", b"\0", b"\xff", b"=1", GOOD, GOOD + b"\n", b"y" * 500])
sizes = st.integers(1, 5000)


def pieces(data, length):
    return [data[start : start + length] for start in range(0, len(data), length)]


def read(data, *, size=parsing.PART, length=1_000_000):
    """Return each record of a file with its line, as the chunks would read them."""
    return [
        found
        for part in parts(pieces(data, length), size=size)
        for found in records(data[part.start : part.end], part.first_line)
    ]


@given(st.lists(rows, max_size=20), st.sampled_from(["\n", "\r\n"]), st.sampled_from([b"", parsing.BOM]), sizes, sizes)
def test_what_was_written_is_read_wherever_it_is_cut(wanted, line_end, bom, size, length):
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator=line_end).writerows(wanted)
    head = bom + HEADER.replace(b"\n", line_end.encode())
    found = read(head + text.getvalue().encode(), size=size, length=length)
    assert [tuple(read_row(record)) for _, record in found] == wanted
    assert [line for line, _ in found] == list(range(2, len(wanted) + 2))


@given(st.lists(bits, max_size=40).map(b"".join), sizes, sizes)
def test_parts_are_the_whole_file_and_cut_no_record(body, size, length):
    data = HEADER + body
    try:
        whole = list(records(body, 2))
    except FileRefusedError:
        reject()
    found = list(parts(pieces(data, length), size=size))
    assert b"".join(data[part.start : part.end] for part in found) == body
    assert read(data, size=size, length=length) == whole


@given(st.one_of(st.binary(max_size=300), st.lists(bits, max_size=8).map(b"".join)))
def test_a_row_is_read_or_refused_with_a_reason(record):
    try:
        row = read_row(record)
    except RowRefusedError:
        return
    assert 0 < abs(row.quantity) <= parsing.QUANTITY_MAX
    assert row.currency in parsing.CURRENCIES


def test_a_row_becomes_values():
    assert read_row(GOOD) == ("A-1", "SKU/7", -3, Decimal("-12.50"), "EUR", date(2026, 11, 23))
    assert read_row(b'"A-1","SKU/7","-3","-12.50","EUR","2026-11-23"\r') == read_row(GOOD)


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        (b"A-1,S,3,1,EUR", "5 columns instead of 6"),
        (b"A-1,S,3,1,EUR,2026-11-23,", "7 columns instead of 6"),
        (b"A-1,S,3,1,EUR,2026-11-23\0", "a NUL byte"),
        (b"A-\xe4,S,3,1,EUR,2026-11-23", "not UTF-8"),
        (b'"A-1"x,S,3,1,EUR,2026-11-23', "quotes or line ends"),
        (b'"A-1,S,3,1,EUR,2026-11-23', "quotes or line ends"),
        (b"A-1,S,3\r,1,EUR,2026-11-23", "quotes or line ends"),
        (b",S,3,1,EUR,2026-11-23", "reference: 1 to 40"),
        (b"A" * 41 + b",S,3,1,EUR,2026-11-23", "reference: 1 to 40"),
        ("Ä-1,S,3,1,EUR,2026-11-23".encode(), "reference: 1 to 40"),
        (b"A-1,S ,3,1,EUR,2026-11-23", "sku: 1 to 40"),
        (b'A-1,"S\n7",3,1,EUR,2026-11-23', "sku: 1 to 40"),
        (b"=HYPERLINK(1),S,3,1,EUR,2026-11-23", "reference: begins like a spreadsheet's formula, with '='"),
        (b"+1,S,3,1,EUR,2026-11-23", "formula, with '+'"),
        (b"-1,S,3,1,EUR,2026-11-23", "formula, with '-'"),
        (b"@SUM(A1),S,3,1,EUR,2026-11-23", "formula, with '@'"),
        (b"A-1,\t=1,3,1,EUR,2026-11-23", r"sku: begins like a spreadsheet's formula, with '\t'"),
        (b'A-1,"\r=1",3,1,EUR,2026-11-23', r"sku: begins like a spreadsheet's formula, with '\r'"),
        (b"A-1,S,0,1,EUR,2026-11-23", "quantity: a whole number"),
        (b"A-1,S,1000001,1,EUR,2026-11-23", "quantity: a whole number"),
        (b"A-1,S,-1000001,1,EUR,2026-11-23", "quantity: a whole number"),
        (b"A-1,S," + b"9" * 4000 + b",1,EUR,2026-11-23", "quantity: a whole number"),
        (b"A-1,S,1.5,1,EUR,2026-11-23", "quantity: a whole number"),
        (b"A-1,S,=1,1,EUR,2026-11-23", "quantity: a whole number"),
        ("A-1,S,٣,1,EUR,2026-11-23".encode(), "quantity: a whole number"),
        (b"A-1,S,3,1.234,EUR,2026-11-23", "amount: a number"),
        (b"A-1,S,3,12345678901,EUR,2026-11-23", "amount: a number"),
        (b"A-1,S,3,1e5,EUR,2026-11-23", "amount: a number"),
        (b"A-1,S,3,NaN,EUR,2026-11-23", "amount: a number"),
        (b'A-1,S,3,"1,5",EUR,2026-11-23', "amount: a number"),
        (b"A-1,S,3,1,eur,2026-11-23", "currency: one of"),
        (b"A-1,S,3,1,XXX,2026-11-23", "currency: one of"),
        (b"A-1,S,3,1,EUR,2026-02-30", "date: a day"),
        (b"A-1,S,3,1,EUR,20261123", "date: a day"),
        (b"A-1,S,3,1,EUR,23.11.2026", "date: a day"),
        (b"A-1,S,3,1,EUR,1999-12-31", "date: a day"),
        (b"A-1,S,3,1,EUR,2100-01-01", "date: a day"),
    ],
)
def test_a_bad_row_is_refused_and_its_column_named(cells, reason):
    with pytest.raises(RowRefusedError, match=re.escape(reason)):
        read_row(cells)


def test_the_bounds_themselves_are_accepted():
    for cells in (
        b"A" * 40 + b",S,1000000,9999999999.99,EUR,2000-01-01",
        b"A,S,-1000000,-9999999999.99,EUR,2099-12-31",
    ):
        assert read_row(cells).sku == "S"


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"\n",
        b"reference;sku;quantity;amount;currency;date\n",
        b"Reference,sku,quantity,amount,currency,date\n",
        b"sku,reference,quantity,amount,currency,date\n",
        b"reference,sku,quantity,amount,currency\n",
        HEADER.decode().encode("utf-16"),
        b"\0" * 10_000,
        b"x" * 100_000,
        HEADER.replace(b"\n", b"\r") * 2,
    ],
    ids=["empty", "blank", "semicolons", "case", "order", "short", "UTF-16", "zeros", "no end", "old Mac"],
)
def test_a_bad_header_is_refused_in_few_words(head):
    with pytest.raises(FileRefusedError, match="line 1: the header must be reference,sku") as refusal:
        list(parts(pieces(head, 1000)))
    assert len(str(refusal.value)) < 700


@pytest.mark.parametrize("body", [b"", b"\n", b"\r\n\n"])
def test_a_file_without_rows_has_none(body):
    assert read(HEADER + body) == []
    assert read(HEADER.removesuffix(b"\n")) == []


def test_a_line_that_never_ends_is_refused_after_a_part_of_it():
    taken = []

    def endless():
        yield HEADER + GOOD + b"\n"
        while True:
            taken.append(1)
            yield b"x" * 100_000

    with pytest.raises(FileRefusedError, match="line 3: a record of more than 4096 bytes"):
        list(parts(endless()))
    assert len(taken) <= 3


def test_a_line_that_is_too_long_within_a_part_is_refused_by_its_line():
    body = (GOOD + b"\n") * 5 + b"x" * 5000 + b"\n" + GOOD
    with pytest.raises(FileRefusedError, match="line 7: a record of more than 4096 bytes"):
        list(records(body, 2))


def test_a_record_as_long_as_may_be_is_read_in_any_cut():
    longest = b"x" * (parsing.RECORD - 1) + b"\n"
    body = longest * 3
    for size in (1, 4095, 4096, 4097, 9000):
        assert len(read(HEADER + body, size=size)) == 3


def test_a_quote_that_is_never_closed_is_refused_by_the_line_where_it_begins():
    body = GOOD + b'\n"' + (GOOD + b"\n") * 500
    with pytest.raises(FileRefusedError, match="line 3"):
        list(records(body, 2))
    with pytest.raises(FileRefusedError, match="never closed"):
        read(HEADER + body * 2, size=6000)


def test_a_quoted_line_feed_counts_as_a_line_and_ends_no_record():
    body = b'"A\n\n1",S,3,1,EUR,2026-11-23\n' + GOOD + b"\n"
    assert [line for line, _ in records(body, 2)] == [2, 5]
