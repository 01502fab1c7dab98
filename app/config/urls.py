"""Every path of the site. /livez and /readyz are answered earlier, by HealthMiddleware."""

from django.contrib import admin
from django.urls import include, path
from django.views.generic import TemplateView

from apps.users.pages import VerifyEmailPage

urlpatterns = [
    path("", TemplateView.as_view(template_name="home.html"), name="home"),
    path("admin/", admin.site.urls),
    path("api/", include("apps.api.urls")),
    path("verify-email/", VerifyEmailPage.as_view(), name="verify-email"),
    path("ops/", include("drumline.web.urls")),
]

handler400 = "apps.api.views.bad_request"
handler403 = "apps.api.views.permission_denied"
handler404 = "apps.api.views.page_not_found"
handler500 = "apps.api.views.server_error"
