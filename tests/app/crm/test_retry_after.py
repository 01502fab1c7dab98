"""Retry-After, as the standard has it and as it should not be."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.crm.retry_after import LONGEST, SHORTEST, retry_after

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120),
        (" 7 ", 7),
        ("0", SHORTEST),
        ("86400", LONGEST),
        ("9" * 100_000, LONGEST),
        ("Mon, 23 Nov 2026 12:02:00 GMT", 120),
        ("Monday, 23-Nov-26 12:02:00 GMT", 120),
        ("Mon, 23 Nov 2026 12:02:00 -0000", 120),
        ("Mon, 23 Nov 2026 13:02:00 +0100", 120),
        ("Mon, 23 Nov 2026 11:00:00 GMT", SHORTEST),
        ("Fri, 31 Dec 9999 23:59:59 GMT", LONGEST),
    ],
)
def test_a_number_and_a_date_are_believed_within_bounds(value, seconds):
    assert retry_after(value, now=NOW) == seconds


@pytest.mark.parametrize(
    "value",
    [None, "", "soon", "-5", "1.5", "1e9", "٣", "²", "0x10", "NaN", "inf", "120, 240", "Mon, 99 Nov 2026 99:99:99 GMT"],
)
def test_anything_else_says_nothing(value):
    assert retry_after(value, now=NOW) is None


@given(st.text())
def test_no_value_is_an_error_or_leaves_the_bounds(value):
    seconds = retry_after(value, now=NOW)
    assert seconds is None or SHORTEST <= seconds <= LONGEST


@given(st.integers(min_value=SHORTEST, max_value=LONGEST))
def test_a_number_and_the_date_that_it_means_are_the_same(seconds):
    date = format_datetime(NOW + timedelta(seconds=seconds), usegmt=True)
    assert retry_after(str(seconds), now=NOW) == retry_after(date, now=NOW) == seconds
