"""Changing orders: each step asks for the status that it starts from, in the statement that writes the next one.

A task is sent inside the transaction and not on its commit: its row in the ledger is then committed with the status, and
published after that. Sent on commit, a process that dies in between would leave an order that waits for ever.
"""

import structlog
from celery import signature
from django.db import transaction
from django.utils import timezone

from apps.orders.models import Order
from apps.payments.models import Payment
from apps.products import services as products
from apps.products.models import Product
from apps.users.models import User

logger = structlog.get_logger(__name__)

Status = Order.Status


class PriceChangedError(Exception):
    """The product does not cost what the customer agreed to."""


def order_create(*, customer: User, product: Product, quantity: int, total: int, currency: str) -> Order:
    """Create an order for the total that the customer agreed to; raise PriceChangedError when it is another."""
    if (product.price * quantity, product.currency) != (total, currency):
        raise PriceChangedError
    return Order.objects.create(customer=customer, product=product, quantity=quantity, total=total, currency=currency)


@transaction.atomic
def order_pay_request(*, order_id: int, payment_method: str) -> bool:
    """Have an order paid that nobody pays yet, or whose payment failed; return whether it is one."""
    payable = Order.objects.filter(pk=order_id, status__in=(Status.PENDING, Status.FAILED))
    if not payable.update(status=Status.PAYING, failure="", payment_method=payment_method):
        return False
    signature("orders.charge_and_fulfill", args=(order_id,)).apply_async()
    return True


@transaction.atomic
def order_charge(*, order_id: int) -> bool:
    """Take the stock for an order that is to be paid, and have the card charged; return whether this call did.

    Of any number of deliveries at the same moment one finds the status, as each waits for the row's lock. Stock, status,
    payment and the task that charges it are one transaction, so they are written once, all or none. The lock is held
    for these statements only: the provider is asked outside of any transaction, under the key that is written here.
    """
    order = Order.objects.select_for_update().filter(pk=order_id).first()
    if order is None or order.status != Status.PAYING:
        logger.info("order_charge_skipped", order_id=order_id, status=order.status if order else "gone")
        return False
    if not products.stock_take(product_id=order.product_id, quantity=order.quantity):
        order.status, order.failure = Status.FAILED, Order.Failure.SOLD_OUT
        order.save(update_fields=["status", "failure"])
        logger.info("order_sold_out", order_id=order_id)
        return False
    order.status = Status.CHARGING
    order.save(update_fields=["status"])
    payment = Payment.objects.create(
        order=order, amount=order.total, currency=order.currency, payment_method=order.payment_method
    )
    signature("payments.charge_card", args=(payment.pk,)).apply_async()
    return True


def order_paid(*, order_id: int) -> bool:
    """Record in the caller's transaction that the card was charged; return whether the order waited for that."""
    charging = Order.objects.filter(pk=order_id, status=Status.CHARGING)
    return bool(charging.update(status=Status.PAID, paid_at=timezone.now()))


def order_declined(*, order_id: int) -> bool:
    """Give up an order in the caller's transaction, and put its stock back; return whether it was being charged."""
    charging = Order.objects.filter(pk=order_id, status=Status.CHARGING)
    if not charging.update(status=Status.FAILED, failure=Order.Failure.DECLINED):
        return False
    order = Order.objects.get(pk=order_id)
    products.stock_return(product_id=order.product_id, quantity=order.quantity)
    return True


def order_ship_request(*, order_id: int) -> bool:
    """Have an order marked as shipped that is paid; return whether it is, and was not shipped before."""
    if not Order.objects.filter(pk=order_id, status=Status.PAID).exists():
        return False
    signature("orders.mark_shipped", args=(order_id,)).apply_async()
    return True


@transaction.atomic
def order_ship(*, order_id: int) -> bool:
    """Mark an order as shipped that is paid; return whether this call did.

    The conditional UPDATE makes it so once, however often it is asked for.
    """
    paid = Order.objects.filter(pk=order_id, status=Status.PAID)
    if not paid.update(status=Status.SHIPPED, shipped_at=timezone.now()):
        logger.info("order_ship_skipped", order_id=order_id)
        return False
    order = Order.objects.get(pk=order_id)
    products.stock_ship(product_id=order.product_id, quantity=order.quantity)
    logger.info("order_shipped", order_id=order_id)
    return True
