"""How many requests a caller may make, counted in the database: a limit holds for all web processes together."""

from datetime import timedelta
from ipaddress import ip_network
from typing import Any

from django.db import connection
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.throttling import ScopedRateThrottle, SimpleRateThrottle

from apps.api.models import RequestCount

# One statement: of two requests at the same moment each counts.
COUNT = """INSERT INTO api_requestcount AS counted (key, number, ends_at) VALUES (%(key)s, 1, %(ends_at)s)
    ON CONFLICT (key) DO UPDATE SET
        number = CASE WHEN counted.ends_at > %(now)s THEN counted.number + 1 ELSE 1 END,
        ends_at = CASE WHEN counted.ends_at > %(now)s THEN counted.ends_at ELSE excluded.ends_at END
    RETURNING number"""


def client_network(address: str) -> str:
    """Return whom an address stands for: of IPv6 the network of 64 bits, whose addresses one visitor has for the asking."""
    try:
        return str(ip_network((address, 64), strict=False).network_address) if ":" in address else address
    except ValueError:
        return address


class DatabaseRateThrottle(SimpleRateThrottle):
    """Counts in the database. A window begins with a caller's first request, and lets in so many until it ends."""

    num_requests: int | None
    duration: int | None

    def allow_request(self, request: Request, view: Any) -> bool:
        """Count the request, and return whether it is within the limit."""
        now = timezone.now()
        self.key = self.get_cache_key(request, view)
        ends_at = now + timedelta(seconds=self.duration or 0)
        moment = connection.ops.adapt_datetimefield_value
        with connection.cursor() as cursor:
            cursor.execute(COUNT, {"key": self.key, "now": moment(now), "ends_at": moment(ends_at)})
            [number] = cursor.fetchone()
        return bool(number <= (self.num_requests or 0))

    def wait(self) -> float:
        """Return the seconds until the window ends."""
        ends_at = RequestCount.objects.values_list("ends_at", flat=True).get(key=self.key)
        return (ends_at - timezone.now()).total_seconds()

    def get_ident(self, request: Request) -> str:
        """Return whom a request without an account is counted for."""
        return client_network(super().get_ident(request))


class Throttle(ScopedRateThrottle, DatabaseRateThrottle):
    """Limits each caller by the rate of the view's `throttle_scope`."""
