"""The Celery application, as Celery's own documentation has every Django project write it."""

from celery import Celery

app = Celery("testproject")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
