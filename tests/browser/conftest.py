"""A real browser in front of the site of `make up`, or of --base-url."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.paths import PROJECT

SECRETS = PROJECT / "ansible" / "inventories" / "local" / "secrets"
ADMIN = "admin@drumline.test"


@pytest.fixture(scope="session")
def base_url(pytestconfig: pytest.Config) -> str:
    return str(pytestconfig.getoption("base_url") or "https://127.0.0.1:8443")


@pytest.fixture(scope="session")
def browser_type_launch_args() -> dict[str, Any]:
    # Debian's own browser: Playwright's download is another program, and root has no sandbox to start it in.
    quiet = ["--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
    return {"executable_path": "/usr/bin/chromium", "args": ["--no-sandbox", "--disable-gpu", *quiet]}


@pytest.fixture(scope="session")
def browser_context_args() -> dict[str, Any]:
    # The private authority is checked where certificates are the subject, in tests/hosts.
    return {"ignore_https_errors": True, "viewport": {"width": 1280, "height": 900}}


@pytest.fixture(scope="session")
def admin_password() -> str:
    return (SECRETS / "admin_password").read_text().strip()
