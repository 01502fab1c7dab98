"""Django's own tasks on the ledger: a backend for `django.tasks`, and for `django-tasks` below Django 6.0.

    TASKS = {"default": {"BACKEND": "drumline.tasks_backend.LedgerBackend", "QUEUES": ["default", "emails"]}}

A task that is enqueued is a durable task like any other: a row from `enqueue()` to its end, written in the caller's
transaction, run by the Celery workers of its queue, and listed in the same admin and among the same dead letters.
"""

from drumline.tasks_backend.backend import LedgerBackend

__all__ = ["LedgerBackend"]
