"""Takes out of a report what must not leave the house: secrets by their name, and by what they look like."""

import re
from typing import Any

from config.settings.logging import SECRET_WORDS

HIDDEN = "(hidden)"
# A field whose name holds one of these words.
NAMES = (*SECRET_WORDS, "credential", "private_key", "dsn", "card", "cvc", "cvv", "iban")
# What is made by the SDK and the code, and holds nobody's data.
OURS = {"event_id", "fingerprint", "release", "sdk", "server_name", "stacktrace", "tags", "timestamp", "trace"}
# In a text, and what stands in its place. Bounded, so that a text of many beginnings is not read to its end for each.
PATTERNS = (
    (re.compile(r"(?<=://)[^/\s@]{1,200}@"), f"{HIDDEN}@"),
    (re.compile(r"[\w.+%-]{1,64}@[\w-]{1,63}(\.[\w-]{1,63}){1,8}"), "(e-mail)"),
    (re.compile(r"(?i)\b(bearer|basic|token)\s+[\w.~+/=-]{8,}"), rf"\1 {HIDDEN}"),
    (re.compile(r"(?i)\b([\w-]{0,40}(?:password|secret|token|api_?key))(['\"]?\s*[=:]\s*)(?!\s)\S+"), rf"\1\2{HIDDEN}"),
    (re.compile(r"\b(?:[sr]k_(?:live|test)_\w+|whsec_\w+|eyJ[\w-]{1,500}\.[\w-]{1,2000}\.[\w-]+)"), HIDDEN),
)
# Thirteen to nineteen digits, in one piece or in the groups that cards show them in.
DIGITS = re.compile(r"(?<![\w-])(?:\d{13,19}|\d{4}([ -])\d{4}\1\d{4}\1\d{1,7}|\d{4}([ -])\d{6}\2\d{5})(?![\w-])")

SHORTEST_CARD, LONGEST_CARD = 10**12, 10**19 - 1


def scrub(value: Any) -> Any:
    """Return a copy of JSON data without what must not leave."""
    if isinstance(value, dict):
        return {_scrub_text(str(key)): _scrub_field(str(key), field) for key, field in value.items()}
    if isinstance(value, (list, tuple)):
        return [scrub(item) for item in value]
    if isinstance(value, str):
        return _scrub_text(value)
    if isinstance(value, int) and SHORTEST_CARD <= value <= LONGEST_CARD:
        text = _scrub_card(str(value))
        return text if text != str(value) else value
    return value


def _scrub_field(name: str, value: Any) -> Any:
    if name in OURS:
        return value
    return HIDDEN if any(word in name.lower() for word in NAMES) else scrub(value)


def _scrub_text(text: str) -> str:
    for pattern, instead in PATTERNS:
        text = pattern.sub(instead, text)
    return DIGITS.sub(lambda found: _scrub_card(found.group()), text)


def _scrub_card(text: str) -> str:
    """Hide a card's number, known by its check digit; leave any other number."""
    digits = [int(digit) for digit in text if digit.isdigit()][::-1]
    luhn = sum(digits[0::2]) + sum(sum(divmod(2 * digit, 10)) for digit in digits[1::2])
    return text if luhn % 10 else "(card number)"
