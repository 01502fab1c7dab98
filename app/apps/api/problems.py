"""Errors as problem documents (RFC 9457): one shape for every 4xx and 5xx under /api/."""

from http import HTTPStatus
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpResponse, JsonResponse
from drf_spectacular.utils import OpenApiResponse, inline_serializer
from rest_framework import exceptions, serializers, status
from rest_framework.response import Response
from rest_framework.views import exception_handler as rest_exception_handler

CONTENT_TYPE = "application/problem+json"


class ConflictError(exceptions.APIException):
    """What was asked for contradicts what is stored; `detail` maps each field to its reasons."""

    status_code = status.HTTP_409_CONFLICT
    default_detail = "This contradicts what is already stored."
    default_code = "conflict"


class InsufficientStorageError(exceptions.APIException):
    """There is no room for what was sent: the account's quota, or the host's, is used up."""

    status_code = status.HTTP_507_INSUFFICIENT_STORAGE
    default_code = "insufficient_storage"


# The problem document, for the OpenAPI schema.
ProblemSerializer = inline_serializer(
    name="Problem",
    fields={
        "type": serializers.CharField(default="about:blank"),
        "title": serializers.CharField(),
        "status": serializers.IntegerField(),
        "detail": serializers.CharField(),
        "errors": inline_serializer(
            name="FieldProblem",
            fields={
                "field": serializers.CharField(),
                "code": serializers.CharField(),
                "message": serializers.CharField(),
            },
            many=True,
            required=False,
        ),
    },
)


# What every view that asks for an account may answer, and every view that reads JSON.
SIGNED_IN = {403: "not signed in, or not allowed", 429: "too many requests"}
JSON_BODY = {400: "a field was refused", 413: "the body is larger than 1 MB", 415: "the body is not JSON"}


def responses(reasons: dict[int, str]) -> dict[int, OpenApiResponse]:
    """Return the problems that a view may answer, each with its reason, for the OpenAPI schema."""
    return {code: OpenApiResponse(ProblemSerializer, description=reason) for code, reason in reasons.items()}


def document(code: int, detail: str, errors: list[dict[str, str]] | None = None) -> dict[str, Any]:
    """Return the problem document for a status code."""
    problem: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(code).phrase,
        "status": code,
        "detail": detail,
    }
    if errors:
        problem["errors"] = errors
    return problem


def response(code: int, detail: str) -> HttpResponse:
    """Return a problem document from outside Django REST framework."""
    return JsonResponse(document(code, detail), status=code, content_type=CONTENT_TYPE)


def exception_handler(error: Exception, context: dict[str, Any]) -> Response | None:
    """Turn what Django REST framework answers into a problem document; leave the unexpected to handler500."""
    if isinstance(error, Http404):
        error = exceptions.NotFound()
    elif isinstance(error, PermissionDenied):
        error = exceptions.PermissionDenied()
    answer = rest_exception_handler(error, context)
    if answer is None or not isinstance(error, exceptions.APIException):
        return answer
    details = error.get_full_details()
    if isinstance(details, dict) and set(details) == {"message", "code"}:
        answer.data = document(error.status_code, str(details["message"]))
    else:
        answer.data = document(error.status_code, "Some fields were refused; see errors.", list(_flatten(details)))
    answer.content_type = CONTENT_TYPE
    return answer


def _flatten(details: Any, field: str = "") -> list[dict[str, str]]:
    """List the reasons of a nested structure, each with the path of its field."""
    if isinstance(details, list):
        return [reason for item in details for reason in _flatten(item, field)]
    if set(details) == {"message", "code"} and not isinstance(details["message"], (dict, list)):
        return [{"field": field, "code": str(details["code"]), "message": str(details["message"])}]
    return [
        reason
        for key, value in details.items()
        for reason in _flatten(value, field if key == "non_field_errors" else f"{field}.{key}".lstrip("."))
    ]
