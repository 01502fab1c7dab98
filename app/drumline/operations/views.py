"""What nginx asks before it lets somebody through to Flower."""

from django.http import HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe


@never_cache
@require_safe
def auth(request: HttpRequest) -> HttpResponse:
    """Answer 204 for a signed-in, active member of staff, and 401 for everybody else."""
    user = request.user
    return HttpResponse(status=204 if user.is_active and user.is_staff else 401)
