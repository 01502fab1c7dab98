"""The production settings with the benchmark's tasks, in one of three modes (BENCH_MODE).

reference: what Celery's production checklists ask for, with results in the database and no ledger
off: the same worker as Drumline's, its connections reused and its results ignored, without the ledger
ledger: Drumline
"""

import os

from config.settings.production import *  # noqa: F403
from config.settings.production import DATABASES, INSTALLED_APPS

MODE = os.environ["BENCH_MODE"]
INSTALLED_APPS = [*INSTALLED_APPS[:-1], "benchtasks", INSTALLED_APPS[-1]]
DRUMLINE_DURABLE = MODE == "ledger"
DRUMLINE_KEEP_FINISHED = int(os.environ.get("BENCH_KEPT", "86400"))
CELERY_WORKER_SEND_TASK_EVENTS = False
# Only the modes with the longer backlog would replace their children within it.
CELERY_WORKER_MAX_TASKS_PER_CHILD = None
if MODE == "reference":
    CELERY_TASK_IGNORE_RESULT = False
    CELERY_DB_REUSE_MAX = None
    DATABASES["default"]["CONN_MAX_AGE"] = 0
