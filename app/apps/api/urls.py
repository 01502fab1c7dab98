"""Paths under /api/."""

from django.urls import include, path, re_path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView

from apps.api.task_status import TaskView
from apps.api.views import not_found
from apps.users.session import SessionView

urlpatterns = [
    path("session/", SessionView.as_view(), name="session"),
    path("orders/", include("apps.orders.urls")),
    path("users/", include("apps.users.urls")),
    path("reminders/", include("apps.notifications.urls")),
    path("reports/", include("apps.reports.urls")),
    path("tasks/<str:task_id>/", TaskView.as_view(), name="task"),
    path("imports/", include("apps.warehouse.urls")),
    path("schema/", SpectacularAPIView.as_view(), name="schema"),
    # Split: no script inside the page, so that a strict Content-Security-Policy can forbid them.
    re_path(r"^docs/?$", SpectacularSwaggerSplitView.as_view(url_name="schema"), name="docs"),
    # Last, and ending without a slash too: Django's redirect to one would lose a POST.
    re_path(r"^.*$", not_found),
]
