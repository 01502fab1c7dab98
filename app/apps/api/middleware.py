"""Rules for every path under /api/, whatever its view does."""

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse

from apps.api import problems

# Bytes read and thrown away of a body that is refused, and how many at a time.
DRAINED = 32_000_000
PIECE = 65_536


class NoStoreMiddleware:
    """Keep every answer under /api/ out of caches, the browser's included, unless its view says otherwise."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Add `Cache-Control: no-store` where a view set none."""
        response = self.get_response(request)
        if request.path.startswith("/api/"):
            response.headers.setdefault("Cache-Control", "no-store")
        return response


class BodyLimitMiddleware:
    """Refuse a body above the limit without keeping it.

    Django's own limit does not apply here: Django REST framework reads the stream past it. A body without a
    declared length is empty to Django.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer 413 under /api/ where the declared length is too large."""
        limit = settings.API_BODY_LIMITS.get(request.path, settings.DATA_UPLOAD_MAX_MEMORY_SIZE)
        length = request.META.get("CONTENT_LENGTH") or "0"
        if limit and request.path.startswith("/api/") and length.isdigit() and int(length) > limit:
            # Hung up on in the middle of its body, a client or a proxy would see a broken connection, not the answer.
            for _ in range(min(int(length), DRAINED) // PIECE + 1):
                request.read(PIECE)
            return problems.response(413, f"The body has {int(length)} bytes; at most {limit} are accepted.")
        return self.get_response(request)
