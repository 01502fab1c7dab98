"""Whatever a task leaves behind, the ledger can keep it."""

import json
import uuid
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drumline import storable

ANY_TEXT = st.text(alphabet=st.characters(exclude_categories=()))


class SpeechlessError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")

    __repr__ = __str__


class Shout(str):
    __slots__ = ()


def fits(text: str) -> bool:
    text.encode()
    return type(text) is str and "\0" not in text


@given(ANY_TEXT, st.integers(0, 100))
def test_any_text_becomes_one_that_postgresql_takes_within_the_limit(content, limit):
    kept = storable.text(content, limit=limit)

    assert fits(kept)
    assert len(kept) <= limit


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=100))
def test_ordinary_text_is_kept_as_it_is(content):
    assert storable.text(content) == content


def test_what_postgresql_refuses_is_shown_as_an_escape():
    assert storable.error_text(ValueError("a\0b")) == "ValueError: a\\x00b"
    assert storable.error_text(OSError("caf\udce9.csv")) == "OSError: caf\\udce9.csv"
    assert storable.text(Shout("loud\0")) == "loud\\x00"
    assert fits(storable.text(Shout("loud")))


def test_an_error_without_words_is_named():
    assert storable.error_text(SpeechlessError()) == "SpeechlessError: <SpeechlessError whose text raised RuntimeError>"


def test_a_long_text_keeps_its_beginning_and_its_end():
    kept = storable.text("begin" + "x" * 1_000_000 + "end", limit=1000)

    assert len(kept) == 1000
    assert kept.startswith("begin")
    assert kept.endswith("end")
    assert "999008 characters left out" in kept


VALUES = [
    datetime(2026, 11, 27, tzinfo=UTC),
    date(2026, 11, 27),
    uuid.UUID(int=7),
    Decimal("1.10"),
    b"\xff",
    "a\0b\udce9",
    float("inf"),
    {"nested": [1, None, {"at": datetime(2026, 1, 1, tzinfo=UTC)}]},
]


@pytest.mark.parametrize("value", VALUES, ids=str)
def test_a_message_keeps_what_stock_celery_would_send(value):
    encoded = storable.encode({"header": value})

    assert encoded.isascii()
    assert "\0" not in encoded
    assert storable.decode(encoded) == {"header": value}


def test_a_value_that_no_format_knows_is_kept_by_its_text():
    assert json.loads(storable.encode({"set": {1}, "error": SpeechlessError()})) == {
        "set": "{1}",
        "error": "<SpeechlessError whose text raised RuntimeError>",
    }
