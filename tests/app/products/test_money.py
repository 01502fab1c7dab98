"""Amounts of money, as people write them and as they should not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.products.money import CURRENCIES, LARGEST, SMALLEST, money_parse, money_text

currencies = st.sampled_from(sorted(CURRENCIES))
amounts = st.integers(min_value=SMALLEST, max_value=LARGEST)


@pytest.mark.parametrize(
    ("text", "currency", "amount"),
    [
        ("19.99", "EUR", 1999),
        ("19.9", "EUR", 1990),
        ("19", "EUR", 1900),
        ("0.01", "USD", 1),
        ("00019.05", "GBP", 1905),
        ("999999.99", "CHF", LARGEST),
        ("1", "JPY", 1),
        ("99999999", "JPY", LARGEST),
    ],
)
def test_decimal_text_is_an_amount_in_the_smallest_unit(text, currency, amount):
    assert money_parse(text, currency) == amount


@pytest.mark.parametrize("text", ["", ".", ".5", "5.", "-5", "+5", "1e3", "1,000.00", "1.999", " 1", "1\n", "٣", "NaN"])
def test_anything_else_is_refused_with_an_example(text):
    with pytest.raises(ValueError, match=r"no amount in EUR; one is 19\.99"):
        money_parse(text, "EUR")


def test_a_currency_without_fractions_takes_none():
    with pytest.raises(ValueError, match="no amount in JPY; one is 1999"):
        money_parse("19.9", "JPY")


@pytest.mark.parametrize(
    ("text", "currency", "bounds"),
    [
        ("0", "EUR", r"0\.01 to 999999\.99 EUR"),
        ("0.00", "EUR", r"0\.01 to 999999\.99 EUR"),
        ("1000000", "EUR", r"0\.01 to 999999\.99 EUR"),
        ("0", "JPY", "1 to 99999999 JPY"),
    ],
)
def test_an_amount_out_of_bounds_is_refused_with_the_bounds(text, currency, bounds):
    with pytest.raises(ValueError, match=f"from {bounds}"):
        money_parse(text, currency)


@given(amounts, currencies)
def test_what_is_written_is_read_as_the_same_amount(amount, currency):
    assert money_parse(money_text(amount, currency), currency) == amount


@given(st.text(), currencies)
def test_no_text_is_another_error_or_leaves_the_bounds(text, currency):
    try:
        amount = money_parse(text, currency)
    except ValueError:
        return
    assert SMALLEST <= amount <= LARGEST


@given(st.decimals(min_value=0, max_value=2_000_000, places=2).map(str))
def test_it_is_the_decimal_number_that_the_text_says(text):
    whole, _, fraction = text.partition(".")
    expected = int(whole) * 100 + int(fraction)
    try:
        assert money_parse(text, "EUR") == expected
    except ValueError:
        assert not SMALLEST <= expected <= LARGEST
