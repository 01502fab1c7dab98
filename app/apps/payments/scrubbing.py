"""Taking card numbers and keys out of somebody else's words before they are kept or logged."""

import re

# Twelve digits or more, however they are grouped: rather too much than a card's number.
CARD_NUMBER = re.compile(r"\d(?:[\W_]{0,3}\d){11,}")
KEY = re.compile(r"\b(?:sk|rk|pk|whsec)_\w+")
HIDDEN = "(hidden)"


def scrubbed(text: str) -> str:
    """Return the text without what looks like a card's number or one of the provider's keys."""
    return KEY.sub(HIDDEN, CARD_NUMBER.sub(HIDDEN, text))
