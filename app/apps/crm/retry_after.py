"""Reading Retry-After (RFC 9110, 10.2.3), whatever somebody put there."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

# Bounds of what is believed, in seconds. Less would be a busy loop; more, and the task had better fail.
SHORTEST, LONGEST = 1, 3600
# A number of more digits is longer than anybody's patience.
DIGITS = 9


def retry_after(value: str | None, *, now: datetime | None = None) -> int | None:
    """Return for how many seconds to wait, within the bounds; None when the value says nothing."""
    text = (value or "").strip()
    if text.isascii() and text.isdigit():
        seconds = float(text) if len(text) <= DIGITS else LONGEST
    else:
        try:
            moment = parsedate_to_datetime(text)
            # A date without a zone is in UTC, as every HTTP date is.
            seconds = (moment.replace(tzinfo=moment.tzinfo or UTC) - (now or datetime.now(UTC))).total_seconds()
        except (ValueError, OverflowError, TypeError, IndexError):
            return None
    return int(min(max(seconds, SHORTEST), LONGEST))
