"""Each step of an order starts from one status only, and is done once."""

from unittest import mock

import pytest
from django.contrib.auth import get_user_model
from django.db import IntegrityError, transaction
from django.db.models import ProtectedError

from apps.orders import services, tasks
from apps.orders.models import Order
from apps.payments.models import Payment
from apps.products.models import Product
from drumline.models import DurableTask
from tests.app.shop import a_product, an_order, sent, stock

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("no_broker")]

Status = Order.Status


def others(*statuses):
    return [status for status in Status if status not in statuses]


def test_an_order_is_created_for_the_price_that_the_customer_agreed_to(user):
    order = services.order_create(customer=user, product=a_product(), quantity=2, total=3998, currency="EUR")
    order.refresh_from_db()
    assert (order.customer, order.product.sku, order.quantity, order.status) == (user, "TEA-1", 2, "pending")
    assert (order.total, order.total_text, order.currency) == (3998, "39.98", "EUR")
    assert (order.failure, order.payment_method, order.paid_at, order.shipped_at) == ("", "", None, None)
    assert stock() == (10, 0)
    assert sent() == []


@pytest.mark.parametrize(("total", "currency"), [(3997, "EUR"), (3999, "EUR"), (1999, "EUR"), (3998, "USD")])
def test_an_order_for_another_price_is_refused(user, total, currency):
    with pytest.raises(services.PriceChangedError):
        services.order_create(customer=user, product=a_product(), quantity=2, total=total, currency=currency)
    assert not Order.objects.exists()


@pytest.mark.parametrize("status", [Status.PENDING, Status.FAILED])
def test_an_order_that_nobody_pays_can_be_paid(status):
    order = an_order(status, failure=Order.Failure.DECLINED, payment_method="pm_old")
    assert services.order_pay_request(order_id=order.pk, payment_method="pm_card_visa")
    order.refresh_from_db()
    assert (order.status, order.failure, order.payment_method) == ("paying", "", "pm_card_visa")
    assert sent() == [("orders.charge_and_fulfill", [order.pk])]
    assert DurableTask.objects.get().queue == "high"
    assert stock() == (10, 0)


@pytest.mark.parametrize("status", others(Status.PENDING, Status.FAILED))
def test_an_order_that_is_paid_or_being_paid_is_not_paid_again(status):
    order = an_order(status)
    assert not services.order_pay_request(order_id=order.pk, payment_method="pm_other")
    order.refresh_from_db()
    assert (order.status, order.payment_method) == (status, "pm_card_visa")
    assert sent() == []


def test_the_status_and_the_task_are_committed_together_or_not_at_all(django_capture_on_commit_callbacks):
    order = an_order()
    with mock.patch("drumline.sending.enqueue.publish") as publish:
        with pytest.raises(LookupError), transaction.atomic():
            services.order_pay_request(order_id=order.pk, payment_method="pm_card_visa")
            raise LookupError
        order.refresh_from_db()
        assert (order.status, sent()) == ("pending", [])
        with django_capture_on_commit_callbacks(execute=True):
            services.order_pay_request(order_id=order.pk, payment_method="pm_card_visa")
            publish.assert_not_called()
        publish.assert_called_once()


def test_an_order_to_be_paid_gets_its_stock_and_one_payment_however_often_it_is_delivered():
    order = an_order(Status.PAYING)
    assert tasks.charge_and_fulfill(order.pk)
    for _ in range(2):
        assert not tasks.charge_and_fulfill(order.pk)
    order.refresh_from_db()
    assert order.status == "charging"
    payment = Payment.objects.get()
    assert (payment.order, payment.amount, payment.currency) == (order, 3998, "EUR")
    assert (payment.payment_method, payment.status) == ("pm_card_visa", "pending")
    assert sent() == [("payments.charge_card", [payment.pk])]
    assert stock() == (8, 2)


@pytest.mark.parametrize("status", others(Status.PAYING))
def test_an_order_that_is_not_to_be_paid_is_not_charged(status, caplog):
    order = an_order(status)
    before = stock()
    assert not services.order_charge(order_id=order.pk)
    order.refresh_from_db()
    assert order.status == status
    assert (stock(), Payment.objects.count(), sent()) == (before, 0, [])
    assert f"'status': '{status}'" in caplog.text


def test_an_order_that_is_gone_is_not_charged(caplog):
    assert not services.order_charge(order_id=1)
    assert "'status': 'gone'" in caplog.text


@pytest.mark.parametrize(("left", "status"), [(1, "failed"), (2, "charging")])
def test_an_order_of_more_than_there_is_fails_before_anything_is_charged(left, status):
    order = an_order(Status.PAYING, product=a_product(stock=left))
    assert services.order_charge(order_id=order.pk) == (status == "charging")
    order.refresh_from_db()
    assert order.status == status
    assert order.failure == ("sold_out" if status == "failed" else "")
    assert Payment.objects.count() == len(sent()) == (status == "charging")
    assert stock() == ((1, 0) if status == "failed" else (0, 2))


@pytest.mark.parametrize(
    ("step", "status", "broken"),
    [
        (lambda pk: services.order_pay_request(order_id=pk, payment_method="pm_x"), Status.PENDING, "signature"),
        (lambda pk: services.order_charge(order_id=pk), Status.PAYING, "signature"),
        (lambda pk: services.order_ship(order_id=pk), Status.PAID, "products.stock_ship"),
    ],
    ids=["pay", "charge", "ship"],
)
def test_a_step_that_fails_in_its_middle_changes_nothing(step, status, broken):
    order = an_order(status)
    before = stock()
    with mock.patch(f"apps.orders.services.{broken}", side_effect=RuntimeError), pytest.raises(RuntimeError):
        step(order.pk)
    order.refresh_from_db()
    assert (order.status, stock(), Payment.objects.count()) == (status, before, 0)


def test_an_order_that_was_charged_is_paid_once():
    order = an_order(Status.CHARGING)
    assert services.order_paid(order_id=order.pk)
    order.refresh_from_db()
    assert order.status == "paid"
    paid_at = order.paid_at
    assert paid_at is not None
    assert not services.order_paid(order_id=order.pk)
    order.refresh_from_db()
    assert order.paid_at == paid_at
    assert stock() == (8, 2)


def test_an_order_that_was_declined_fails_and_gives_its_stock_back_once():
    order = an_order(Status.CHARGING)
    assert services.order_declined(order_id=order.pk)
    assert not services.order_declined(order_id=order.pk)
    order.refresh_from_db()
    assert (order.status, order.failure) == ("failed", "declined")
    assert stock() == (10, 0)


@pytest.mark.parametrize("status", others(Status.CHARGING))
def test_an_order_that_is_not_being_charged_is_neither_paid_nor_declined(status):
    order = an_order(status)
    before = stock()
    assert not services.order_paid(order_id=order.pk)
    assert not services.order_declined(order_id=order.pk)
    order.refresh_from_db()
    assert (order.status, order.failure, order.paid_at) == (status, "", None)
    assert stock() == before


def test_a_paid_order_is_marked_as_shipped_once():
    order = an_order(Status.PAID)
    assert tasks.mark_shipped(order.pk)
    order.refresh_from_db()
    assert order.status == "shipped"
    shipped_at = order.shipped_at
    assert shipped_at is not None
    assert not tasks.mark_shipped(order.pk)
    order.refresh_from_db()
    assert order.shipped_at == shipped_at
    assert stock() == (8, 0)


@pytest.mark.parametrize("status", others(Status.PAID))
def test_an_order_that_is_not_paid_is_not_shipped(status, caplog):
    order = an_order(status)
    before = stock()
    assert not services.order_ship_request(order_id=order.pk)
    assert not services.order_ship(order_id=order.pk)
    order.refresh_from_db()
    assert (order.status, order.shipped_at) == (status, None)
    assert (stock(), sent()) == (before, [])
    assert "order_ship_skipped" in caplog.text


@pytest.mark.parametrize(
    ("step", "status", "left"),
    [
        (lambda pk: services.order_pay_request(order_id=pk, payment_method="pm_x"), Status.PENDING, (10, 0)),
        (lambda pk: services.order_charge(order_id=pk), Status.PAYING, (8, 2)),
        (lambda pk: services.order_paid(order_id=pk), Status.CHARGING, (6, 4)),
        (lambda pk: services.order_declined(order_id=pk), Status.CHARGING, (8, 2)),
        (lambda pk: services.order_ship(order_id=pk), Status.PAID, (6, 2)),
    ],
    ids=["pay", "charge", "paid", "declined", "ship"],
)
def test_a_step_changes_the_order_that_is_meant_and_no_other(step, status, left):
    product = a_product()
    before, meant, after = (an_order(status, product=product, quantity=quantity) for quantity in (1, 2, 1))
    assert step(meant.pk) is True
    for order in (before, meant, after):
        order.refresh_from_db()
    assert before.status == after.status == status != meant.status
    assert stock() == left


def test_only_the_order_that_is_paid_is_to_be_shipped():
    paid, pending = an_order(Status.PAID), an_order()
    assert services.order_ship_request(order_id=paid.pk) is True
    assert services.order_ship_request(order_id=pending.pk) is False
    assert sent() == [("orders.mark_shipped", [paid.pk])]


@pytest.mark.parametrize(
    ("status", "left", "task", "line"),
    [
        (Status.PENDING, 10, tasks.charge_and_fulfill, "'event': 'order_charge_skipped'"),
        (Status.PAYING, 1, tasks.charge_and_fulfill, "'event': 'order_sold_out'"),
        (Status.PENDING, 10, tasks.mark_shipped, "'event': 'order_ship_skipped'"),
        (Status.PAID, 10, tasks.mark_shipped, "'event': 'order_shipped'"),
    ],
)
def test_the_log_says_what_became_of_which_order(status, left, task, line, caplog):
    order = an_order(status, product=a_product(stock=left))
    task(order.pk)
    [said] = [text for record in caplog.records if line in (text := record.getMessage())]
    assert f"'order_id': {order.pk}" in said


@pytest.mark.parametrize("fields", [{"quantity": 0}, {"quantity": 1001}, {"total": 0}, {"total": 100_000_000}])
def test_the_database_refuses_amounts_that_cannot_be(fields):
    order = an_order()
    with pytest.raises(IntegrityError), transaction.atomic():
        Order.objects.filter(pk=order.pk).update(**fields)


def test_what_was_ordered_and_who_ordered_it_is_kept():
    order = an_order()
    for kept in (Product.objects.get(), get_user_model().objects.get()):
        with pytest.raises(ProtectedError):
            kept.delete()
    assert str(order) == f"order {order.pk}"
