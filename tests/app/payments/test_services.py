"""Charging once, whatever the provider does and however often a task runs."""

from datetime import timedelta
from unittest import mock

import pytest
from django.utils import timezone

from apps.orders.models import Order
from apps.orders.services import order_charge, order_pay_request
from apps.payments import provider, services, tasks
from apps.payments.models import FailedCharge, Payment
from apps.payments.provider import UnknownError
from tests.app.shop import a_payment, an_order, retried, sent, stock
from tests.counterparts.stripe import Answer, error, stripe_server

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("no_broker")]

Status = Payment.Status
Reason = FailedCharge.Reason
DOWN = error(500, "api_error", "Sorry!")


@pytest.fixture
def stripe(settings):
    with stripe_server() as server:
        settings.STRIPE_URL, settings.STRIPE_API_KEY = server.url, "sk_test_secret"
        yield server


def now(row):
    row.refresh_from_db()
    return row


def test_a_payment_is_charged_and_its_order_paid_once(stripe):
    payment = a_payment()
    for _ in range(3):
        assert tasks.charge_card(payment.pk)
    [charged] = stripe.charges
    assert (charged["amount"], charged["currency"]) == (3998, "eur")
    assert charged["metadata"] == {"payment": str(payment.key), "order": str(payment.order_id)}
    assert len(stripe.asked) == 1
    assert (now(payment).status, payment.external_id) == ("charged", "pi_1")
    assert payment.charged_at is not None
    assert (now(payment.order).status, stock()) == ("paid", (8, 2))
    assert not FailedCharge.objects.exists()


def test_a_run_that_died_after_the_charge_is_made_up_for_without_a_second_one(stripe):
    payment = a_payment()
    with mock.patch.object(services, "_settle", side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        services.payment_charge(payment_id=payment.pk)
    assert now(payment).status == "pending"
    assert services.payment_charge(payment_id=payment.pk)
    assert (len(stripe.asked), len(stripe.charges)) == (2, 1)
    assert now(payment.order).status == "paid"


def test_two_runs_at_the_same_moment_record_one_charge(stripe, caplog):
    payment = a_payment()
    real = provider.charge

    def meanwhile(**asked):
        with mock.patch.object(provider, "charge", side_effect=real):
            assert services.payment_charge(payment_id=payment.pk)
        return real(**asked)

    with mock.patch.object(provider, "charge", side_effect=meanwhile):
        assert services.payment_charge(payment_id=payment.pk)
    assert len(stripe.charges) == 1
    assert now(payment.order).status == "paid"
    assert caplog.text.count("'event': 'payment_charged'") == 1
    assert "for_nothing" not in caplog.text


@pytest.mark.parametrize("status", [Status.DECLINED, Status.UNKNOWN])
def test_a_payment_that_a_person_must_look_at_is_not_charged_by_itself(stripe, status, caplog):
    payment = a_payment(status=status)
    assert not tasks.charge_card(payment.pk)
    assert stripe.asked == []
    assert f"'status': '{status}'" in caplog.text


def test_a_payment_that_is_gone_is_skipped(stripe, caplog):
    assert not tasks.charge_card(1)
    assert stripe.asked == []
    assert "'status': 'gone'" in caplog.text


def test_a_declined_card_is_a_failed_charge_at_once_and_the_stock_is_back(stripe, caplog):
    order = an_order(Order.Status.CHARGING, payment_method="pm_card_chargeDeclined")
    payment = a_payment(order)
    for _ in range(2):
        assert not tasks.charge_card(payment.pk)
    assert len(stripe.asked) == 1
    failed = FailedCharge.objects.get()
    assert (failed.payment, failed.reason, failed.requeued_at, failed.requeued_by) == (payment, "declined", None, "")
    assert failed.error == "card_declined: Request req_1: Your card was declined."
    assert now(payment).status == "declined"
    assert (now(order).status, order.failure, stock()) == ("failed", "declined", (10, 0))
    assert "'reason': 'declined'" in caplog.text


def test_a_provider_that_fails_is_asked_again_three_times_later_and_later(stripe):
    payment = a_payment()
    stripe.answers = [DOWN] * 3
    limits = []
    for retries in range(3):
        with mock.patch("celery.utils.time.random.randrange", side_effect=lambda limit: limits.append(limit) or 7):
            asked = retried(tasks.charge_card, payment.pk, retries=retries)
        assert isinstance(asked["exc"], UnknownError)
        assert asked["countdown"] == 7
    assert limits == [16, 31, 61]
    assert tasks.charge_card.max_retries == 3
    assert (now(payment).status, now(payment.order).status) == ("pending", "charging")
    assert {asked.key for asked in stripe.asked} == {str(payment.key)}
    assert not FailedCharge.objects.exists()


def run_last(payment):
    task = tasks.charge_card
    task.push_request(called_directly=False, retries=3, args=(payment.pk,), kwargs={})
    try:
        return task.run(payment.pk)
    finally:
        task.pop_request()


def test_after_three_retries_it_is_a_failed_charge_and_nothing_is_raised(stripe):
    payment = a_payment()
    stripe.answers = [DOWN] * 2
    assert run_last(payment) is False
    assert run_last(payment) is False
    failed = FailedCharge.objects.get()
    assert (failed.reason, failed.error) == ("unknown", "APIError: Request req_1: Sorry!")
    # It may have been charged, so the order keeps its stock until somebody knows.
    assert (now(payment).status, now(payment.order).status, stock()) == ("unknown", "charging", (8, 2))


@pytest.mark.usefixtures("stripe")
def test_the_last_run_may_still_charge():
    payment = a_payment()
    assert run_last(payment) is True
    assert now(payment.order).status == "paid"


def test_nothing_of_a_card_number_reaches_the_row_the_log_or_the_broker(stripe, caplog):
    payment = a_payment()
    words = "4242 4242 4242 4242 and sk_live_abc123"
    stripe.answers = [error(500, "api_error", words), error(402, "card_error", words, code="card_declined")]
    told = str(retried(tasks.charge_card, payment.pk)["exc"])
    assert not tasks.charge_card(payment.pk)
    told += FailedCharge.objects.get().error + caplog.text
    assert told.count("(hidden) and (hidden)") >= 3
    assert "4242" not in told
    assert "abc123" not in told


def test_what_was_charged_is_recorded_though_another_run_had_given_up(stripe):
    payment = a_payment()
    real = provider.charge

    def meanwhile(**asked):
        services.payment_fail(payment_id=payment.pk, reason=Reason.UNKNOWN, error="no answer")
        return real(**asked)

    with mock.patch.object(provider, "charge", side_effect=meanwhile):
        assert services.payment_charge(payment_id=payment.pk)
    assert len(stripe.charges) == 1
    assert (now(payment).status, now(payment.order).status) == ("charged", "paid")
    assert not services.failed_charge_requeue(failed_charge_id=FailedCharge.objects.get().pk, by="eve")
    assert sent() == []


@pytest.mark.usefixtures("stripe")
def test_a_charge_for_an_order_that_waits_for_none_is_an_error_in_the_log(caplog):
    payment = a_payment()
    Order.objects.update(status=Order.Status.SHIPPED)
    assert services.payment_charge(payment_id=payment.pk)
    assert now(payment).status == "charged"
    [line] = [record for record in caplog.records if "payment_charged_for_nothing" in record.getMessage()]
    assert line.levelname == "ERROR"


@pytest.mark.parametrize("status", [Status.CHARGED, Status.DECLINED, Status.UNKNOWN])
@pytest.mark.parametrize("reason", Reason)
def test_a_settled_payment_does_not_fail_any_more(status, reason):
    payment = a_payment(status=status)
    assert not services.payment_fail(payment_id=payment.pk, reason=reason, error="too late")
    assert (now(payment).status, now(payment.order).status) == (status, "charging")
    assert not FailedCharge.objects.exists()


def test_a_very_long_error_is_cut_to_what_the_column_holds():
    payment = a_payment()
    assert services.payment_fail(payment_id=payment.pk, reason=Reason.UNKNOWN, error="x" * 501)
    assert FailedCharge.objects.get().error == "x" * 500


@pytest.mark.parametrize(("age", "looked_up"), [(timedelta(hours=22, minutes=59), 0), (timedelta(hours=23), 1)])
def test_a_key_that_the_provider_may_have_forgotten_is_looked_up_first(stripe, age, looked_up):
    payment = a_payment()
    stripe.answers = ["lost"]
    with pytest.raises(UnknownError):
        services.payment_charge(payment_id=payment.pk)
    Payment.objects.update(created_at=timezone.now() - age)
    if looked_up:
        stripe.forget_keys()
    assert services.payment_charge(payment_id=payment.pk)
    assert [asked.path.endswith("/search") for asked in stripe.asked[1:]] == [bool(looked_up)]
    assert len(stripe.charges) == 1
    assert now(payment).external_id == "pi_1"


def test_an_old_payment_that_was_not_charged_is(stripe):
    payment = a_payment()
    Payment.objects.update(created_at=timezone.now() - timedelta(days=3))
    assert services.payment_charge(payment_id=payment.pk)
    assert [asked.path.endswith("/search") for asked in stripe.asked] == [True, False]
    assert len(stripe.charges) == 1


def test_a_lookup_that_fails_charges_nothing(stripe):
    payment = a_payment()
    Payment.objects.update(created_at=timezone.now() - timedelta(days=3))
    stripe.answers = [DOWN]
    with pytest.raises(UnknownError):
        services.payment_charge(payment_id=payment.pk)
    assert stripe.charges == []


def test_a_charge_of_which_nobody_knows_is_requeued_under_its_own_key(stripe):
    payment = a_payment()
    stripe.answers = ["lost"]
    run_last(payment)
    failed = FailedCharge.objects.get()
    assert services.failed_charge_requeue(failed_charge_id=failed.pk, by="eve@example.com")
    assert (now(failed).requeued_by, failed.requeued_at is not None) == ("eve@example.com", True)
    assert (now(payment).status, sent()) == ("pending", [("payments.charge_card", [payment.pk])])
    assert tasks.charge_card(payment.pk)
    assert len(stripe.charges) == 1
    assert now(payment.order).status == "paid"


@pytest.mark.usefixtures("stripe")
def test_a_declined_charge_is_requeued_as_a_new_one_with_the_stock_taken_anew():
    order = an_order(Order.Status.CHARGING, payment_method="pm_card_chargeDeclined")
    first = a_payment(order)
    tasks.charge_card(first.pk)
    failed = FailedCharge.objects.get()
    assert services.failed_charge_requeue(failed_charge_id=failed.pk, by="eve@example.com")
    assert (now(order).status, order.payment_method) == ("paying", "pm_card_chargeDeclined")
    assert sent() == [("orders.charge_and_fulfill", [order.pk])]
    assert order_charge(order_id=order.pk)
    second = Payment.objects.exclude(pk=first.pk).get()
    assert second.key != first.key
    assert (now(first).status, second.status, stock()) == ("declined", "pending", (8, 2))
    assert now(failed).requeued_by == "eve@example.com"


@pytest.mark.parametrize("reason", Reason)
def test_a_failed_charge_is_requeued_once(reason):
    payment = a_payment()
    services.payment_fail(payment_id=payment.pk, reason=reason, error="x")
    failed = FailedCharge.objects.get()
    assert services.failed_charge_requeue(failed_charge_id=failed.pk, by="eve")
    Payment.objects.update(status=Status.UNKNOWN)
    Order.objects.update(status=Order.Status.FAILED)
    assert not services.failed_charge_requeue(failed_charge_id=failed.pk, by="mallory")
    assert now(failed).requeued_by == "eve"
    assert len(sent()) == 1


def test_a_failed_charge_is_left_alone_when_the_customer_pays_another_way():
    order = an_order(Order.Status.CHARGING)
    payment = a_payment(order)
    services.payment_fail(payment_id=payment.pk, reason=Reason.DECLINED, error="x")
    order_pay_request(order_id=order.pk, payment_method="pm_card_mastercard")
    failed = FailedCharge.objects.get()
    assert not services.failed_charge_requeue(failed_charge_id=failed.pk, by="eve")
    assert (now(failed).requeued_at, failed.requeued_by) == (None, "")
    assert (now(order).payment_method, len(sent())) == ("pm_card_mastercard", 1)
    assert not services.failed_charge_requeue(failed_charge_id=failed.pk + 1, by="eve")


@pytest.mark.usefixtures("stripe")
@pytest.mark.parametrize(
    ("method", "broken"), [("pm_card_visa", "orders.order_paid"), ("pm_card_chargeDeclined", "orders.order_declined")]
)
def test_a_payment_and_its_order_are_settled_together_or_not_at_all(method, broken):
    order = an_order(Order.Status.CHARGING, payment_method=method)
    payment = a_payment(order)
    with mock.patch(f"apps.payments.services.{broken}", side_effect=RuntimeError), pytest.raises(RuntimeError):
        services.payment_charge(payment_id=payment.pk)
    assert (now(payment).status, now(order).status, stock()) == ("pending", "charging", (8, 2))
    assert not FailedCharge.objects.exists()
    services.payment_charge(payment_id=payment.pk)
    assert (now(payment).status, now(order).status) in {("charged", "paid"), ("declined", "failed")}


def test_a_requeue_that_fails_in_its_middle_changes_nothing():
    payment = a_payment()
    services.payment_fail(payment_id=payment.pk, reason=Reason.UNKNOWN, error="x")
    failed = FailedCharge.objects.get()
    with mock.patch("apps.payments.services.signature", side_effect=RuntimeError), pytest.raises(RuntimeError):
        services.failed_charge_requeue(failed_charge_id=failed.pk, by="eve")
    assert (now(payment).status, now(failed).requeued_at) == ("unknown", None)


def test_only_the_payment_that_is_meant_is_touched(stripe):
    payments = before, meant, after = [a_payment() for _ in range(3)]
    assert services.payment_charge(payment_id=meant.pk)
    assert stripe.charges[0]["metadata"]["payment"] == str(meant.key)
    assert [now(payment).status for payment in payments] == ["pending", "charged", "pending"]
    Payment.objects.update(status=Status.PENDING)
    assert services.payment_fail(payment_id=meant.pk, reason=Reason.UNKNOWN, error="x")
    assert [now(payment).status for payment in payments] == ["pending", "unknown", "pending"]
    for other in (before, after):
        services.payment_fail(payment_id=other.pk, reason=Reason.UNKNOWN, error="x")
    assert services.failed_charge_requeue(failed_charge_id=before.failures.get().pk, by="eve")
    assert services.failed_charge_requeue(failed_charge_id=after.failures.get().pk, by="eve")
    assert [now(payment).status for payment in payments] == ["pending", "unknown", "pending"]
    assert [payment.failures.get().requeued_by for payment in payments] == ["eve", "", "eve"]


@pytest.mark.usefixtures("stripe")
def test_the_log_says_what_became_of_which_payment(caplog):
    payment = a_payment()

    def said(event):
        [line] = [text for record in caplog.records if f"'event': '{event}'" in (text := record.getMessage())]
        return line

    services.payment_fail(payment_id=payment.pk, reason=Reason.UNKNOWN, error="no answer")
    assert f"'payment_id': {payment.pk}, 'reason': 'unknown', 'error': 'no answer'" in said("payment_failed")
    failed = FailedCharge.objects.get()
    services.failed_charge_requeue(failed_charge_id=failed.pk, by="eve")
    assert f"'failed_charge_id': {failed.pk}, 'by': 'eve'" in said("failed_charge_requeued")
    services.payment_charge(payment_id=payment.pk)
    assert f"'payment_id': {payment.pk}" in said("payment_charged")
    services.payment_charge(payment_id=payment.pk)
    assert f"'payment_id': {payment.pk}, 'status': 'charged'" in said("payment_skipped")
    Payment.objects.update(status=Status.PENDING)
    services.payment_charge(payment_id=payment.pk)
    lost = said("payment_charged_for_nothing")
    assert f"'payment_id': {payment.pk}, 'order_id': {payment.order_id}" in lost


def test_an_answer_that_is_no_charge_is_left_to_a_person_in_the_end(stripe):
    payment = a_payment()
    stripe.answers = [Answer(200, {"id": "pi_1", "object": "payment_intent", "status": "processing"})]
    assert run_last(payment) is False
    assert now(payment).status == "unknown"
    assert str(payment) == f"payment {payment.pk}: 39.98 EUR"
    assert str(FailedCharge.objects.get()) == f"unknown: payment {payment.pk}"


def test_from_the_click_to_the_parcel_without_a_worker(stripe, settings):
    settings.CELERY_TASK_ALWAYS_EAGER = True
    order = an_order()
    order_pay_request(order_id=order.pk, payment_method="pm_card_visa")
    assert now(order).status == "paid"
    assert order.paid_at is not None
    assert len(stripe.charges) == 1
    assert stock() == (8, 2)
