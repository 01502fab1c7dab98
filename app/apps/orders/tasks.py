"""Tasks of the orders domain."""

from celery import shared_task

from apps.orders import services


@shared_task(name="orders.charge_and_fulfill")
def charge_and_fulfill(order_id: int) -> bool:
    """Take the stock for an order and have it charged, once; return whether this run did."""
    return services.order_charge(order_id=order_id)


@shared_task(name="orders.mark_shipped")
def mark_shipped(order_id: int) -> bool:
    """Mark a paid order as shipped, once; return whether this run did."""
    return services.order_ship(order_id=order_id)
