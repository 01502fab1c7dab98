"""The supplier's HTTP interface: `GET stock` lists what it has of each product, in the order of the changes.

A page says how far it goes (`cursor`) and whether there is `more`; `?cursor=` goes on from there, now or tomorrow.
"""

import json
import time
from typing import Any, NamedTuple

import httpx
from django.conf import settings

# Seconds: for a connection, for each read of an answer, and for a whole page, which may come byte by byte.
TIMEOUT = httpx.Timeout(5, connect=3)
PAGE_SECONDS = 10.0
# Bytes of a page.
PAGE_SIZE = 5_000_000
# Characters of a cursor.
CURSOR = 200
# More than this no shelf holds.
MOST = 1_000_000_000


class SupplierError(Exception):
    """It cannot be reached, failed, or answered something else than its stock."""


class Page(NamedTuple):
    """What a page says: how many the supplier has, by the product's SKU."""

    stock: dict[str, int]
    cursor: str
    more: bool


def stock_page(*, cursor: str) -> Page:
    """Return the page behind the cursor. Raises SupplierError."""
    try:
        with (
            httpx.Client(base_url=settings.SUPPLIER_URL, timeout=TIMEOUT) as client,
            client.stream("GET", "stock", params={"cursor": cursor}) as answer,
        ):
            if answer.status_code != httpx.codes.OK:
                raise SupplierError(f"the supplier answered {answer.status_code}")
            body = _read(answer)
    except httpx.RequestError as error:
        raise SupplierError(f"{type(error).__name__}: {error}") from error
    try:
        return _page(json.loads(body))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise SupplierError("the supplier answered something else than its stock") from error


def _read(answer: httpx.Response) -> bytes:
    deadline, body = time.monotonic() + PAGE_SECONDS, b""
    for piece in answer.iter_bytes():
        body += piece
        if len(body) > PAGE_SIZE:
            raise SupplierError(f"the supplier's page has more than {PAGE_SIZE} bytes")
        if time.monotonic() > deadline:
            raise SupplierError(f"the supplier's page took more than {PAGE_SECONDS:g} s")
    return body


def _page(answer: Any) -> Page:
    stock = {item["sku"]: item["stock"] for item in answer["items"]}
    cursor, more = answer["cursor"], answer["more"]
    if not all(_is_text(sku) and type(count) is int and 0 <= count <= MOST for sku, count in stock.items()):
        raise ValueError("an item is none")
    if not (_is_text(cursor) and 0 < len(cursor) <= CURSOR and isinstance(more, bool)):
        raise ValueError("it does not say how far it goes")
    return Page(stock, cursor, more)


def _is_text(value: object) -> bool:
    # What is not printable may be nothing that the database takes.
    return isinstance(value, str) and value.isprintable()
