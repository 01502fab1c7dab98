r"""Make any content fit for the ledger's columns, without ever failing on it.

PostgreSQL's text holds neither NUL nor lone surrogates, and its jsonb refuses them behind escapes as well. Both occur:
in the error of a parser, in a file name that is not UTF-8. Text that people read shows them as `\x00` and `\udce9`. A
message keeps them: it is JSON in ASCII, stored as text, and is decoded by Python alone.
"""

from typing import Any

from kombu.utils.json import JSONEncoder
from kombu.utils.json import loads as kombu_loads

# Characters of a text that is kept, unless the caller says another number.
LIMIT = 10_000


def text(value: object, *, limit: int = LIMIT) -> str:
    """Return a value as text of at most `limit` characters that PostgreSQL takes; never raise.

    What is too long loses its middle: an error begins with what it is about, and a traceback ends with it.
    """
    if type(value) is str and len(value) <= limit and value.isascii() and "\0" not in value:
        return value
    try:
        content = str(value)
        shortened = _shorten(content, limit)
        # Through bytes, which also makes an instance of a subclass a plain string.
        clean = str.encode(shortened, "utf-8", "backslashreplace").decode().replace("\0", "\\x00")
    except Exception as error:  # noqa: BLE001  `__str__` may raise anything
        return f"<{type(value).__name__} whose text raised {type(error).__name__}>"[:limit]
    # An escape is longer than what it stands for.
    return _shorten(clean, limit)


def error_text(error: BaseException, *, limit: int = LIMIT) -> str:
    """Return an error's class and message as one text; never raise."""
    return text(f"{type(error).__name__}: {text(error, limit=limit)}", limit=limit)


def encode(value: Any) -> str:
    """Return JSON in ASCII, with dates, UUIDs and the like as kombu writes them, and anything else by its text.

    Raise TypeError, ValueError or RecursionError for what no JSON can hold: a key that is a tuple, a cycle.
    NaN and infinity are kept as Python writes them; this is text for a text column, not for PostgreSQL's json.
    """
    return _ENCODER.encode(value)


def encode_strictly(value: Any) -> str:
    """Return the same, but raise TypeError for what kombu does not know either."""
    return _STRICT_ENCODER.encode(value)


def decode(content: str) -> Any:
    """Return what `encode` was given; raise ValueError for what is not JSON."""
    return kombu_loads(content)


class _Encoder(JSONEncoder):
    def default(self, o: Any) -> Any:
        try:
            return super().default(o)
        except Exception:  # noqa: BLE001  a value's own `__json__` may raise anything
            return text(o)


_ENCODER = _Encoder()
_STRICT_ENCODER = JSONEncoder()


def _shorten(content: str, limit: int) -> str:
    if len(content) <= limit:
        return content
    gap = f" … {len(content) - limit} characters left out … "
    kept = max(limit - len(gap), 0)
    head = kept // 2
    return content[:head] + gap[:limit] + content[len(content) - (kept - head) :]
