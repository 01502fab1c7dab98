"""gunicorn, as systemd starts it: the listening socket is inherited (LISTEN_FDS), so nothing is bound here."""

from config import env
from config.settings.logging import log_level, structured

with env.together():
    workers = env.integer("WEB_CONCURRENCY", example="2", at_least=1, at_most=256)
    threads = env.integer("WEB_THREADS", example="4", at_least=1, at_most=256)
    timeout = env.integer("WEB_TIMEOUT", example="30", at_least=1)
    graceful_timeout = env.integer("WEB_GRACEFUL_TIMEOUT", example="30", at_least=1)
    logconfig_dict = structured(log_level())

wsgi_app = "config.wsgi:application"
worker_class = "gthread"
# The heartbeat file in memory: a slow disk must not look like a dead worker.
worker_tmp_dir = "/dev/shm"  # noqa: S108
# Longer than nginx keeps an idle connection to here, so that it never sends into one that just closed.
keepalive = 75
# A leak stays bounded; the jitter keeps the processes from restarting together.
max_requests = 10_000
max_requests_jitter = 1_000
# Each process imports the project itself: a reload takes the new code, and no connection is shared by a fork.
preload_app = False
# systemd manages the processes; one more socket would be one more way in.
control_socket_disable = True
# django_structlog writes the line of a request, with its id.
accesslog = None
