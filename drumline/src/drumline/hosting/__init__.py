"""How a project runs on Drumline's hosts without an edit of its checkout.

A host names these modules where it would name the project's: `drumline.hosting.settings` in DJANGO_SETTINGS_MODULE,
`drumline.hosting.celery` in `celery --app`, `drumline.hosting.gunicorn` in `gunicorn --config`. `python -m drumline.hosting` does
what has no management command of the project's. Nothing here needs `drumline` in INSTALLED_APPS.
"""
