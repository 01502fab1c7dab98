"""What a host on the internet needs on top of `base`."""

from config import env
from config.settings.base import *  # noqa: F403
from config.settings.base import ALLOWED_HOSTS, DATABASE_URL

with env.together():
    if DATABASE_URL.startswith("sqlite"):
        env.fail(
            "DATABASE_URL names SQLite, which cannot serve several hosts (example: postgresql://user:password@host/name)"
        )
    if "*" in ALLOWED_HOSTS:
        env.fail(
            "DJANGO_ALLOWED_HOSTS holds '*', which lets anyone choose the host name (example: drumline.example.com)"
        )

# nginx terminates TLS, always sets this header, and is the only one that reaches the socket.
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SECURE_SSL_REDIRECT = True
SECURE_HSTS_SECONDS = 365 * 24 * 3600
SECURE_HSTS_INCLUDE_SUBDOMAINS = True
SILENCED_SYSTEM_CHECKS = [
    # Preloading binds a whole domain for years in every browser: its owner's promise, not a program's.
    "security.W021",
]
