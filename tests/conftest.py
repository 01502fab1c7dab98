"""The files that a host would get, rendered once for all tests that need them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.rendering import Playbooks

SECRETS = {
    name: f"secret-of-{name}"
    for name in (
        "vault_django_secret_key",
        "vault_postgresql_password",
        "vault_redis_app_password",
        "vault_redis_flower_password",
        "vault_email_password",
        "vault_admin_password",
    )
}


@pytest.fixture(scope="session")
def playbooks() -> Playbooks:
    """The example production inventory: one host in every group."""
    return Playbooks("production", "app1.example.com", **SECRETS)


@pytest.fixture(scope="session")
def service_files(playbooks: Playbooks) -> dict[str, str]:
    """What the role app_services writes, by path."""
    return _written(playbooks, "__app_services_files")


@pytest.fixture(scope="session")
def supervisor_files(playbooks: Playbooks) -> dict[str, str]:
    """What it writes on a host whose processes supervisor runs."""
    return _written(playbooks, "__app_services_program_files")


def _written(playbooks: Playbooks, files: str) -> dict[str, str]:
    written: list[dict[str, Any]] = playbooks.value("app_services", files)
    return {file["path"]: file["content"] for file in written}
