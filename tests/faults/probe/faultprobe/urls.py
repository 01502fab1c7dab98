"""The application's own URLs, and one that sends a task."""

import json

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import include, path
from django.views.decorators.csrf import csrf_exempt

from faultprobe.sending import send


@csrf_exempt
def send_one(request: HttpRequest) -> HttpResponse:
    """POST {"task": …, "args": […]}."""
    asked = json.loads(request.body)
    return JsonResponse({"id": send(asked["task"], asked.get("args", []))}, status=201)


def alive(_request: HttpRequest) -> HttpResponse:
    """Answer."""
    return HttpResponse("ok")


urlpatterns = [path("faults/send", send_one), path("faults/alive", alive)]
if "drumline" in settings.INSTALLED_APPS:
    urlpatterns.append(path("", include("config.urls")))
