"""The same Celery, faster: no results, prefetch 4, a database connection for a hundred tasks. It still acknowledges late."""

from adapters.celery import BACK, BESIDE, KEEPS, PACKAGES, enqueue, enqueue_many, workers

__all__ = ["BACK", "BESIDE", "KEEPS", "NAME", "PACKAGES", "SAFE", "enqueue", "enqueue_many", "workers"]

NAME = "Celery, tuned"
SAFE = (
    "acks_late, prefetch 4, results ignored, CELERY_DB_REUSE_MAX=100; "
    "https://docs.celeryq.dev/en/stable/userguide/optimizing.html"
)
