"""Tasks of the payments domain."""

from typing import Any

from celery import shared_task
from celery.utils.time import get_exponential_backoff_interval

from apps.payments import services
from apps.payments.models import FailedCharge
from apps.payments.provider import UnknownError


@shared_task(name="payments.charge_card", bind=True, max_retries=3)
def charge_card(self: Any, payment_id: int) -> bool:
    """Charge a payment; return whether it is charged.

    A provider that does not answer is asked again three times, within about two minutes. Then it is a person's turn, and
    so it is at once when the card was declined: a failed charge is recorded, and nothing is raised.
    """
    try:
        return services.payment_charge(payment_id=payment_id)
    except UnknownError as error:
        if self.request.retries >= self.max_retries:
            services.payment_fail(payment_id=payment_id, reason=FailedCharge.Reason.UNKNOWN, error=str(error))
            return False
        wait = get_exponential_backoff_interval(15, self.request.retries, 60, full_jitter=True)
        raise self.retry(exc=error, countdown=wait) from error
