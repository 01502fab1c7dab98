"""Money: a whole number of the currency's smallest unit inside, decimal text outside, and a float nowhere."""

import re

# Digits behind the point.
CURRENCIES = {"CHF": 2, "EUR": 2, "GBP": 2, "JPY": 0, "USD": 2}
# Bounds of an amount, in smallest units; the payment provider takes eight digits.
SMALLEST, LARGEST = 1, 99_999_999

AMOUNT = re.compile(r"(?P<whole>[0-9]{1,8})(?:\.(?P<fraction>[0-9]{1,2}))?")


def money_parse(text: str, currency: str) -> int:
    """Return the amount in its smallest unit; raise ValueError if it is not an amount, or out of bounds."""
    digits = CURRENCIES[currency]
    match = AMOUNT.fullmatch(text)
    fraction = (match and match["fraction"]) or ""
    if match is None or len(fraction) > digits:
        raise ValueError(f"This is no amount in {currency}; one is {money_text(1999, currency)}.")
    amount = int(match["whole"] + fraction.ljust(digits, "0"))
    if not SMALLEST <= amount <= LARGEST:
        bounds = money_text(SMALLEST, currency), money_text(LARGEST, currency)
        raise ValueError(f"The amount must be from {bounds[0]} to {bounds[1]} {currency}.")
    return amount


def money_text(amount: int, currency: str) -> str:
    """Return the amount as people write it, without the currency's name."""
    digits = CURRENCIES[currency]
    if not digits:
        return str(amount)
    whole, fraction = divmod(amount, 10**digits)
    return f"{whole}.{fraction:0{digits}}"
