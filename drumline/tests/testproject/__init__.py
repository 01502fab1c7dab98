from testproject.celery import app

__all__ = ["app"]
