"""A line of nginx's auth_basic_user_file."""

from __future__ import annotations

import base64
import hashlib
from typing import Any


def basic_auth(password: str, user: str) -> str:
    """The line of a user: the same for the same password, so that a run with nothing new changes nothing.

    nginx reads no slow hash on every system (crypt(3)), and this one is fast to guess: the password must be random.
    """
    salt = hashlib.sha256(f"{user}:{password}".encode()).digest()[:8]
    digest = hashlib.sha1(password.encode() + salt, usedforsecurity=False).digest()
    return f"{user}:{{SSHA}}{base64.b64encode(digest + salt).decode()}"


class FilterModule:
    """Names under which the playbooks use this function."""

    def filters(self) -> dict[str, Any]:
        """The filters by name."""
        return {"basic_auth": basic_auth}
