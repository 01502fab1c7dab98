"""GET /livez and GET /readyz, answered before sessions, host checks and request logs."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, JsonResponse

from drumline.health.checks import readiness


class HealthMiddleware:
    """Answer the two health paths; pass on everything else."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer from here where the path is a health path."""
        if request.path not in {"/livez", "/readyz"}:
            return self.get_response(request)
        if request.method not in {"GET", "HEAD"}:
            return HttpResponseNotAllowed(["GET", "HEAD"])
        response = livez() if request.path == "/livez" else readyz()
        response["Cache-Control"] = "no-store"
        return response


def livez() -> JsonResponse:
    """Say that this process answers, whatever else is broken."""
    return JsonResponse({"status": "ok"})


def readyz() -> JsonResponse:
    """Say whether this process can serve, and if not, which part fails."""
    checks = readiness()
    ready = all(check.ok for check in checks.values())
    return JsonResponse(
        {"status": "ok" if ready else "error", "checks": {name: check.as_json() for name, check in checks.items()}},
        status=200 if ready else 503,
    )
