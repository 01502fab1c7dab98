"""A shop with something in it."""

from unittest import mock

from celery.exceptions import Retry
from django.contrib.auth import get_user_model

from apps.orders.models import Order
from apps.payments.models import Payment
from apps.products.models import Product
from drumline.ledger.selectors import task_arguments
from drumline.models import DurableTask


def a_product(sku="TEA-1", *, price=1999, currency="EUR", stock=10, **fields) -> Product:
    return Product.objects.create(sku=sku, name="Tea", price=price, currency=currency, stock=stock, **fields)


def an_order(status=Order.Status.PENDING, *, product=None, quantity=2, customer=None, **fields) -> Order:
    """An order with its stock as it is in this status."""
    product = product or Product.objects.filter(sku="TEA-1").first() or a_product()
    customer = customer or get_user_model().objects.get_or_create(email="ada@example.com")[0]
    if status in {Order.Status.CHARGING, Order.Status.PAID}:
        product.stock, product.reserved = product.stock - quantity, product.reserved + quantity
        product.save()
    total = product.price * quantity
    fields.setdefault("payment_method", "pm_card_visa" if status != Order.Status.PENDING else "")
    return Order.objects.create(
        customer=customer,
        product=product,
        quantity=quantity,
        total=total,
        currency=product.currency,
        status=status,
        **fields,
    )


def a_payment(order=None, **fields) -> Payment:
    """A payment of an order that is being charged."""
    order = order or an_order(Order.Status.CHARGING)
    fields = {"amount": order.total, "currency": order.currency, "payment_method": order.payment_method, **fields}
    return Payment.objects.create(order=order, **fields)


def stock(sku="TEA-1") -> tuple[int, int]:
    """What can be sold, and what is sold and not shipped."""
    return Product.objects.values_list("stock", "reserved").get(sku=sku)


def sent() -> list[tuple[str, list]]:
    """The tasks that were sent, oldest first, with their arguments."""
    return [(row.name, task_arguments(row)[0]) for row in DurableTask.objects.order_by("created_at")]


def retried(task, *args, retries=0, **kwargs) -> dict:
    """Run a task as a worker does, and return what it asks for: the exception and the delay."""
    task.push_request(called_directly=False, retries=retries, args=args, kwargs=kwargs)
    try:
        with mock.patch.object(task, "retry", side_effect=Retry) as retry:
            try:
                task.run(*args, **kwargs)
            except Retry:
                pass
            else:
                raise AssertionError("it did not ask for another run")
    finally:
        task.pop_request()
    return retry.call_args.kwargs
