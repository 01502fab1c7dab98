"""Tasks of the products domain."""

from typing import Any

import structlog
from celery import shared_task
from celery.utils.time import get_exponential_backoff_interval

from apps.products import services
from apps.products.supplier import SupplierError

logger = structlog.get_logger(__name__)


@shared_task(name="products.sync_inventory", bind=True, max_retries=5)
def sync_inventory(self: Any, *, full: bool = False) -> int | None:
    """Copy the supplier's stock; return how many products were found, or None when this run was skipped.

    Of what changed, every minute by the code's schedule: a run that meets another one, or a supplier that fails, is
    skipped, since the next goes on from the same place. In full, every six hours by an entry that only the database
    holds: that one is worth waiting for, and its failure worth a dead letter.
    """
    try:
        return services.inventory_sync(full=full)
    except (services.InventoryBusyError, SupplierError) as error:
        if full:
            wait = get_exponential_backoff_interval(30, self.request.retries, 600, full_jitter=True)
            raise self.retry(exc=error, countdown=wait) from error
        logger.warning("inventory_sync_skipped", reason=str(error))
        return None
