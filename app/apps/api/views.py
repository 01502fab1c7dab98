"""Errors outside Django REST framework: JSON under /api/, Django's pages elsewhere."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.views import defaults
from django.views.decorators.csrf import csrf_exempt

from apps.api import problems


@csrf_exempt
def not_found(request: HttpRequest, **_: Any) -> HttpResponse:
    """Answer for unknown paths under /api/."""
    return problems.response(404, f"There is no {request.path[:200]}; /api/schema/ lists what there is.")


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer what Django refused before a view ran, such as a foreign Host header."""
    if request.path.startswith("/api/"):
        return problems.response(400, "The request was refused before it reached the API.")
    return defaults.bad_request(request, exception)


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer a refused request."""
    if request.path.startswith("/api/"):
        return problems.response(403, "This is not allowed.")
    return defaults.permission_denied(request, exception)


def page_not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer an unknown path."""
    if request.path.startswith("/api/"):
        return not_found(request)
    return defaults.page_not_found(request, exception)


def server_error(request: HttpRequest) -> HttpResponse:
    """Answer an unexpected error; what happened is in the log under this request's id."""
    if request.path.startswith("/api/"):
        return problems.response(500, "Something went wrong here; X-Request-ID finds it in the log.")
    return defaults.server_error(request)
