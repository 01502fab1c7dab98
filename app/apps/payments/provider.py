"""The payment provider, through its own client.

It never says more than three things here: charged; declined, which is final and charged nothing; or not known, where it
is safe to ask again with the same key. Its errors hold whatever it answered, so they end in this module: what leaves it
are words without card numbers and keys.
"""

from collections.abc import Callable
from typing import TypeVar
from uuid import UUID

import stripe
from django.conf import settings

from apps.payments.scrubbing import scrubbed

T = TypeVar("T")

# Seconds: for a connection, and for the answer.
TIMEOUT = (3.0, 20.0)
# How many characters of an error are kept.
WORDS = 400


class DeclinedError(Exception):
    """Nothing was charged, and asking again would change nothing."""


class UnknownError(Exception):
    """It could not be asked, or did not say whether it charged."""


def charge(*, key: UUID, amount: int, currency: str, payment_method: str, order_id: int) -> str:
    """Charge the amount, in smallest units, and return the provider's id of the charge; once for each key.

    Raises DeclinedError and UnknownError.
    """
    intent = _ask(
        lambda client: client.v1.payment_intents.create(
            {
                "amount": amount,
                "currency": currency.lower(),
                "payment_method": payment_method,
                "allowed_payment_method_types": ["card"],
                "confirm": True,
                # The customer is not here to answer the bank's questions.
                "error_on_requires_action": True,
                "metadata": {"payment": str(key), "order": str(order_id)},
            },
            {"idempotency_key": str(key)},
        )
    )
    if getattr(intent, "status", None) != "succeeded":
        raise UnknownError("the provider's answer is no charge that succeeded")
    return intent.id


def find(*, key: UUID) -> str | None:
    """Return the provider's id of what was charged with this key; None when nothing was. Raises UnknownError.

    The provider's index is a minute behind, so this is for what was charged long ago.
    """
    query = f"metadata['payment']:'{key}' AND status:'succeeded'"
    found = _ask(lambda client: client.v1.payment_intents.search({"query": query, "limit": 1}))
    return found.data[0].id if found.data else None


def _ask(call: Callable[[stripe.StripeClient], T]) -> T:
    if not settings.STRIPE_API_KEY:
        raise UnknownError("STRIPE_API_KEY is empty")
    http = stripe.RequestsClient(timeout=TIMEOUT)
    client = stripe.StripeClient(
        settings.STRIPE_API_KEY,
        base_addresses={"api": settings.STRIPE_URL.rstrip("/")} if settings.STRIPE_URL else {},
        http_client=http,
        # The task's own retries are the only ones.
        max_network_retries=0,
    )
    try:
        return call(client)
    except (stripe.CardError, stripe.InvalidRequestError) as error:
        failure: Exception = DeclinedError(_words(error))
    except stripe.StripeError as error:
        failure = UnknownError(_words(error))
    finally:
        http.close()  # type: ignore[no-untyped-call]  # the library's own omission
    # Out here, where the provider's error is neither its context nor a variable that an error report would show.
    raise failure


def _words(error: stripe.StripeError) -> str:
    return scrubbed(f"{error.code or type(error).__name__}: {error}")[:WORDS]
