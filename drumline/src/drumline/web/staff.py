"""What nginx asks before it lets somebody through to Flower."""

from urllib.parse import urlsplit

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

SAFE_METHODS = {"GET", "HEAD"}
# A page sends its long query as a body.
QUERIES = {("POST", "/flower/tasks/datatable")}


@never_cache
@require_safe
def auth(request: HttpRequest) -> HttpResponse:
    """Say whether the request that nginx holds may pass: 204, 401 without a staff login, 403 without the right to act.

    nginx names that request in X-Original-Method and X-Original-URI. One that may act on workers needs the permission
    `drumline.operate_flower` and must come from a page of this site: a cookie's SameSite counts sibling subdomains as
    the same site. What is spelt in another way than a known query counts as acting.
    """
    # The project's administration knows who is staff, and whether a second factor is missing.
    if not admin.site.has_permission(request):
        return HttpResponse(status=401)
    method = request.headers.get("X-Original-Method", "GET")
    path = request.headers.get("X-Original-URI", "").partition("?")[0]
    if method in SAFE_METHODS or (method, path) in QUERIES:
        return HttpResponse(status=204)
    allowed = request.user.has_perm("drumline.operate_flower") and _from_this_site(request)
    return HttpResponse(status=204 if allowed else 403)


def _from_this_site(request: HttpRequest) -> bool:
    """Return whether the browser says that a page of this very origin sent the request."""
    source = request.headers.get("Origin") or request.headers.get("Referer", "")
    try:
        origin = urlsplit(source)
    except ValueError:
        return False
    return (origin.scheme, origin.netloc) == (request.scheme, request.get_host())
