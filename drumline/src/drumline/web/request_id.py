"""The request id: accepted from the proxy or generated, and always returned in the response."""

import re
import uuid
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

# What nginx's $request_id, a UUID and a trace id look like; anything else could be megabytes, or a forged log line.
SHAPE = re.compile(r"[A-Za-z0-9_.-]{8,64}", re.ASCII)


class RequestIdMiddleware:
    """Give every request an id that the logs, the messages and the answer share."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Write the id into the request, where loggers read it, and into the answer."""
        request_id = request.META.get("HTTP_X_REQUEST_ID", "")
        if not SHAPE.fullmatch(request_id):
            request_id = request.META["HTTP_X_REQUEST_ID"] = uuid.uuid4().hex
        response = self.get_response(request)
        response["X-Request-ID"] = request_id
        return response
