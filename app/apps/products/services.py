"""Changing products: their stock is sold, shipped, and copied from the supplier.

Each of these is one statement that reckons with the row as it is at that moment, so a sale and a sync never undo each
other.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import F, Q, Value
from django.db.models.functions import Greatest
from django.utils import timezone

from apps.products import supplier
from apps.products.models import InventorySync, Product

logger = structlog.get_logger(__name__)

# Longer than the supplier's slowest page takes; after it the holder is believed dead.
LEASE = timedelta(seconds=30)


class InventoryBusyError(Exception):
    """Another sync holds the lease."""


def stock_take(*, product_id: int, quantity: int) -> bool:
    """Sell so many in the caller's transaction, if there are as many; return whether there were."""
    enough = Product.objects.filter(pk=product_id, stock__gte=quantity)
    return bool(enough.update(stock=F("stock") - quantity, reserved=F("reserved") + quantity))


def stock_return(*, product_id: int, quantity: int) -> None:
    """Put back what was sold and not shipped, in the caller's transaction."""
    Product.objects.filter(pk=product_id).update(stock=F("stock") + quantity, reserved=F("reserved") - quantity)


def stock_ship(*, product_id: int, quantity: int) -> None:
    """Forget what was sold and has left the supplier's shelf, in the caller's transaction."""
    Product.objects.filter(pk=product_id).update(reserved=F("reserved") - quantity)


def inventory_sync(*, full: bool = False) -> int:
    """Copy the supplier's stock, and return how many products were found; without a supplier nothing happens.

    It goes on from where the last sync ended. A full one reads everything again and so repairs whatever went wrong
    before, and only it sees that the supplier lists a product no more: none can be sold of it then.

    Raises SupplierError, and InventoryBusyError while another one works; what was copied until then stays. Twice is as
    good as once.
    """
    if not settings.SUPPLIER_URL:
        return 0
    with _lease() as (run, last):
        started, listed, found = timezone.now(), 0, 0
        cursor = "" if full else last
        whole, more = not cursor, True
        while more:
            page = supplier.stock_page(cursor=cursor)
            if page.more and page.cursor == cursor:
                raise supplier.SupplierError("the supplier's cursor stands still")
            with _renewed(run, cursor=page.cursor):
                found += sum(_copy(sku, stock, started) for sku, stock in page.stock.items())
            cursor, more, listed = page.cursor, page.more, listed + len(page.stock)
        if whole and not listed:
            # Its mistake, more likely than the end of the shop.
            raise supplier.SupplierError("the supplier lists nothing at all")
        with _renewed(run, finished_at=timezone.now()):
            gone = Product.objects.exclude(synced_at=started).update(stock=0) if whole else 0
    logger.info("inventory_synced", found=found, gone=gone, full=whole)
    return found


def _copy(sku: str, stock: int, at: datetime) -> int:
    left = Greatest(Value(stock) - F("reserved"), Value(0))
    return Product.objects.filter(sku=sku).update(stock=left, synced_at=at)


@contextmanager
def _lease() -> Iterator[tuple[UUID, str]]:
    """Hold the row alone; yield the holder's name and the last cursor.

    A lease and no advisory lock: it is the same on every database and behind every connection pool, and it ends not
    only with a process that died but also with one that lives and does nothing.
    """
    run, now = uuid4(), timezone.now()
    InventorySync.objects.get_or_create(pk=1)
    free = Q(held_until__isnull=True) | Q(held_until__lt=now)
    if not InventorySync.objects.filter(free, pk=1).update(holder=run, held_until=now + LEASE):
        raise InventoryBusyError("another sync is at work")
    try:
        yield run, InventorySync.objects.values_list("cursor", flat=True).get(pk=1)
    finally:
        InventorySync.objects.filter(holder=run).update(holder=None, held_until=None)


@contextmanager
def _renewed(run: UUID, **fields: str | datetime) -> Iterator[None]:
    """Write in a transaction that only the holder can commit: one that was believed dead writes nothing any more."""
    with transaction.atomic():
        held_until = timezone.now() + LEASE
        if not InventorySync.objects.filter(holder=run).update(held_until=held_until, **fields):
            raise InventoryBusyError("another sync took over")
        yield
