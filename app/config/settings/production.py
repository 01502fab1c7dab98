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
SILENCED_SYSTEM_CHECKS = [
    # nginx sends Strict-Transport-Security with every answer, static files included (app_hsts_include_subdomains).
    "security.W004",
]
