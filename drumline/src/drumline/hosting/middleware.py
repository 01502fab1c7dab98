"""Tells nginx who is staff, in a project that has no path of its own for it."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

from drumline.hosting import project
from drumline.web.staff import auth


class StaffMiddleware:
    """Answer one path, that of `app_staff_path`; pass on everything else."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response
        self._path = project.staff_path()

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Say by the project's own session whether this is staff."""
        return auth(request) if request.path == self._path else self.get_response(request)
