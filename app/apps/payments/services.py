"""Charging cards, and the effect on their orders.

The provider is asked outside of any transaction and without a lock. What keeps two deliveries from charging twice is the
payment's key, which the provider remembers; what keeps them from recording it twice is the conditional UPDATE.
"""

from datetime import timedelta

import structlog
from celery import signature
from django.db import transaction
from django.utils import timezone

from apps.orders import services as orders
from apps.payments import provider
from apps.payments.models import FailedCharge, Payment

logger = structlog.get_logger(__name__)

Status = Payment.Status
Reason = FailedCharge.Reason

# The provider remembers a key for a day at least.
KEY_LIFE = timedelta(hours=23)


def payment_charge(*, payment_id: int) -> bool:
    """Charge a payment that is not settled; return whether it is charged by now.

    Raises `provider.UnknownError` when the provider did not say: ask again.
    """
    payment = Payment.objects.filter(pk=payment_id).first()
    if payment is None or payment.status != Status.PENDING:
        logger.info("payment_skipped", payment_id=payment_id, status=payment.status if payment else "gone")
        return payment is not None and payment.status == Status.CHARGED
    try:
        external_id = _charged_before(payment) or provider.charge(
            key=payment.key,
            amount=payment.amount,
            currency=payment.currency,
            payment_method=payment.payment_method,
            order_id=payment.order_id,
        )
    except provider.DeclinedError as refusal:
        payment_fail(payment_id=payment_id, reason=Reason.DECLINED, error=str(refusal))
        return False
    _settle(payment, external_id)
    return True


def _charged_before(payment: Payment) -> str | None:
    """Look for a charge under a key that the provider may have forgotten, and would charge again for."""
    if timezone.now() - payment.created_at < KEY_LIFE:
        return None
    return provider.find(key=payment.key)


@transaction.atomic
def _settle(payment: Payment, external_id: str) -> None:
    # Also what another delivery gave up: money that was taken is worth more than what is not known of it.
    open_ = Payment.objects.filter(pk=payment.pk, status__in=(Status.PENDING, Status.UNKNOWN))
    if not open_.update(status=Status.CHARGED, external_id=external_id, charged_at=timezone.now()):
        return
    if orders.order_paid(order_id=payment.order_id):
        logger.info("payment_charged", payment_id=payment.pk)
    else:
        logger.error("payment_charged_for_nothing", payment_id=payment.pk, order_id=payment.order_id)


@transaction.atomic
def payment_fail(*, payment_id: int, reason: FailedCharge.Reason, error: str) -> bool:
    """Leave a payment to a person; return whether this call did.

    One that was declined fails its order. One of which nobody knows whether it was charged leaves its order as it is.
    """
    status = Status.DECLINED if reason == Reason.DECLINED else Status.UNKNOWN
    if not Payment.objects.filter(pk=payment_id, status=Status.PENDING).update(status=status):
        return False
    failed = FailedCharge.objects.create(payment_id=payment_id, reason=reason, error=error[:500])
    if reason == Reason.DECLINED:
        orders.order_declined(order_id=failed.payment.order_id)
    logger.warning("payment_failed", payment_id=payment_id, reason=str(reason), error=error)
    return True


@transaction.atomic
def failed_charge_requeue(*, failed_charge_id: int, by: str) -> bool:
    """Try a failed charge again in the name of a person; return whether there is anything to try.

    What was declined is paid again from the start: the stock is taken anew, and the charge is another one. What is not
    known is asked again under its own key, so that it is charged once whatever happened before.
    """
    failed = FailedCharge.objects.select_for_update().filter(pk=failed_charge_id, requeued_at=None).first()
    if failed is None:
        return False
    payment = failed.payment
    if failed.reason == Reason.DECLINED:
        again = orders.order_pay_request(order_id=payment.order_id, payment_method=payment.payment_method)
    else:
        again = bool(Payment.objects.filter(pk=payment.pk, status=Status.UNKNOWN).update(status=Status.PENDING))
        if again:
            signature("payments.charge_card", args=(payment.pk,)).apply_async()
    if again:
        failed.requeued_at, failed.requeued_by = timezone.now(), by
        failed.save(update_fields=["requeued_at", "requeued_by"])
        logger.info("failed_charge_requeued", failed_charge_id=failed_charge_id, by=by)
    return again
