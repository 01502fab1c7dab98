"""Every path of the site on a developer's machine, where no nginx stands before Flower."""

from django.urls import path
from django.views.generic import RedirectView

from config import urls
from config.settings.development import FLOWER_URL
from config.urls import handler400, handler403, handler404, handler500

__all__ = ["handler400", "handler403", "handler404", "handler500", "urlpatterns"]

urlpatterns = [path("flower/", RedirectView.as_view(url=FLOWER_URL)), *urls.urlpatterns]
