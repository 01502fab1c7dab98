"""A Celery application for a project that has none, since its tasks are Django's own (`app_celery` is empty)."""

from celery import Celery

# Django's name for the queue of a task that names none.
DEFAULT_QUEUE = "default"

app = Celery("project")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.add_defaults(lambda: {"task_default_queue": DEFAULT_QUEUE})
app.autodiscover_tasks()
