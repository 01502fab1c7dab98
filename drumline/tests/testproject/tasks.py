from celery import shared_task


@shared_task(name="testproject.work")
def work(*args, **kwargs):
    """Do nothing."""


@shared_task(name="debug_task")
def debug_task(*args, **kwargs):
    """Do nothing."""


@shared_task(name="testproject.add")
def add(x, y):
    """Add."""
    return x + y
