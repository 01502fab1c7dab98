"""The CRM's HTTP interface.

Three things can go wrong, and each is an exception of its own, as each asks for something else: it cannot be reached
(try again, later and later), it is busy (try again when it says), it refuses (trying again would change nothing).
"""

from http import HTTPStatus

import httpx
from django.conf import settings

from apps.crm.retry_after import retry_after

# Seconds: for a connection, and for each read of an answer.
TIMEOUT = httpx.Timeout(10, connect=3)
# Not what is wrong on our side, such as a broken URL: that will not end by itself.
UNREACHABLE = (httpx.TimeoutException, httpx.NetworkError, httpx.RemoteProtocolError)
# Refusals that may end by themselves.
PASSING = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.CONFLICT}
# Characters of a refusal that are kept.
WORDS = 300


class CrmUnavailableError(Exception):
    """It cannot be reached, or failed."""


class CrmBusyError(Exception):
    """It asks to be left alone, for `seconds` if it said so."""

    def __init__(self, seconds: int | None) -> None:
        self.seconds = seconds
        super().__init__("the CRM is busy" + (f" for {seconds} s" if seconds else ""))

    def __reduce__(self) -> tuple[type["CrmBusyError"], tuple[int | None]]:
        """Exceptions travel between processes."""
        return CrmBusyError, (self.seconds,)


class CrmRefusedError(Exception):
    """It will never accept this."""


def contact_put(*, key: str, email: str, full_name: str) -> str:
    """Create or replace the contact with our key, and return the CRM's id. A PUT may be repeated without harm."""
    headers = {"Authorization": f"Bearer {settings.CRM_TOKEN}"} if settings.CRM_TOKEN else {}
    try:
        with httpx.Client(base_url=settings.CRM_URL, timeout=TIMEOUT, headers=headers) as client:
            answer = client.put(f"contacts/{key}", json={"email": email, "name": full_name})
    except UNREACHABLE as error:
        raise CrmUnavailableError(f"{type(error).__name__}: {error}") from error
    if answer.status_code in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}:
        raise CrmBusyError(retry_after(answer.headers.get("Retry-After")))
    if answer.is_server_error or answer.status_code in PASSING:
        raise CrmUnavailableError(f"the CRM answered {answer.status_code}")
    if not answer.is_success:
        raise CrmRefusedError(f"the CRM answered {answer.status_code}: {answer.text[:WORDS]}")
    try:
        return str(answer.json()["id"])
    except (ValueError, KeyError, TypeError) as error:
        raise CrmUnavailableError("the CRM answered something else than a contact") from error
