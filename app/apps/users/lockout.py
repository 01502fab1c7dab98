"""When a sign-in is not even tried: how django-axes counts failures here, and what is said and logged.

Five failures close an account to the client that failed. Fifty from anywhere close it to every client but those that have
signed in to it before: who guesses from many addresses gets no further, and cannot lock the account's owner out.
"""

from typing import Any, cast

import structlog
from axes.handlers.database import AxesDatabaseHandler
from axes.models import AccessLog
from axes.signals import user_locked_out
from django.conf import settings
from django.contrib.auth.signals import user_logged_in, user_login_failed
from django.core.exceptions import ValidationError
from django.core.validators import validate_email, validate_ipv46_address
from django.dispatch import receiver
from django.http import HttpRequest, HttpResponse
from rest_framework.throttling import BaseThrottle

from apps.api import problems
from apps.api.throttling import client_network
from apps.users.models import User, canonical_email

logger = structlog.get_logger(__name__)

# One failure of a client counts as much as so many of all clients together.
ANYWHERE = 10
TOO_MANY = "Too many failed sign-ins. Try again in 15 minutes."


class Handler(AxesDatabaseHandler):  # type: ignore[misc]  # the library ships no types
    """Counts an account's failures from one client, and from anywhere (AXES_LOCKOUT_PARAMETERS, in this order)."""

    def get_failures(self, request: HttpRequest, credentials: dict[str, Any] | None = None) -> int:
        """Return the number that AXES_FAILURE_LIMIT is compared with."""
        here, anywhere = (
            sum(attempts.values_list("failures_since_start", flat=True))
            for attempts in self.get_user_attempts(request, credentials)
        )
        known = AccessLog.objects.filter(username=account(request, credentials), ip_address=client_address(request))
        return int(here if known.exists() else max(here, anywhere // ANYWHERE))

    def reset_user_attempts(self, request: HttpRequest, credentials: dict[str, Any] | None = None) -> int:
        """Forget the failures of the client that has signed in, and nobody else's."""
        here, _ = self.filter_user_attempts(request, credentials)
        return int(here.delete()[0])


def account(_request: HttpRequest, credentials: dict[str, Any] | None) -> str:
    """Return the account that somebody tries to sign in to; what is no e-mail may be a password in the wrong field."""
    email = canonical_email(str((credentials or {}).get("username") or ""))
    try:
        validate_email(email)
    except ValidationError:
        return "(no e-mail)"
    return email


def client_address(request: HttpRequest) -> str | None:
    """Return the address that failures are counted for: of IPv6 the network's."""
    return _valid(client_network(_address(request)))


def response(request: HttpRequest, _original: HttpResponse, _credentials: Any) -> HttpResponse:
    """Answer a sign-in that is not tried."""
    api = request.path.startswith("/api/")
    answer = problems.response(429, TOO_MANY) if api else HttpResponse(TOO_MANY, status=429, content_type="text/plain")
    answer["Retry-After"] = str(int(settings.AXES_COOLOFF_TIME.total_seconds()))
    return answer


@receiver(user_login_failed)
def log_failure(credentials: dict[str, Any], request: HttpRequest, **_: Any) -> None:
    """Log who tried to sign in, and from where."""
    logger.warning("sign_in_failed", account=account(request, credentials), address=_address(request))


@receiver(user_locked_out)
def log_lockout(request: HttpRequest, username: str, **_: Any) -> None:
    """Say that an account is closed to a client."""
    logger.error("sign_in_locked", account=username, address=_address(request))


@receiver(user_logged_in)
def log_success(request: HttpRequest, user: User, **_: Any) -> None:
    """Say who signed in."""
    logger.info("signed_in", user_id=user.pk, address=_address(request))


def _address(request: HttpRequest) -> str:
    """Return what nginx says of the client."""
    return BaseThrottle().get_ident(cast("Any", request)) or ""


def _valid(address: str) -> str | None:
    try:
        validate_ipv46_address(address)
    except ValidationError:
        # The socket of a web server that no proxy stands before.
        return None
    return address
