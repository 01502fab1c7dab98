"""The schedule as a Django application of its own: add `django_celery_beat` and `drumline.beat` to INSTALLED_APPS."""

from django.apps import AppConfig


class BeatConfig(AppConfig):
    """What needs django-celery-beat, and nothing else of Drumline does."""

    name = "drumline.beat"
    label = "drumline_beat"
    verbose_name = "Drumline's schedule"
    default_auto_field = "django.db.models.BigAutoField"
