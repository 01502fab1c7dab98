"""The settings read exactly what the playbook renders, secrets apart from the rest."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.support.paths import PROJECT
from tests.support.rendering import Playbooks

APP = PROJECT / "app"


def read_by(target: str) -> dict[str, dict[str, Any]]:
    """The variables that a settings module or a Python file of the application reads, by name."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("DJANGO_", "CELERY_"))}
    listed = subprocess.run(
        [sys.executable, "-m", "config.env", target],
        cwd=APP,
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    return {variable["name"]: variable for variable in json.loads(listed.stdout)}


@pytest.fixture(scope="module")
def settings() -> dict[str, dict[str, Any]]:
    return read_by("config.settings.production")


def test_every_plain_variable_that_the_settings_read_is_rendered_and_the_reverse(
    settings: dict[str, dict[str, Any]], playbooks: Playbooks
) -> None:
    rendered = set(playbooks.value("app_release", "app_release_env")) | {"DJANGO_SETTINGS_MODULE"}

    assert {name for name, variable in settings.items() if not variable["secret"]} == rendered


def test_every_secret_that_the_settings_read_is_rendered_apart_and_the_reverse(
    settings: dict[str, dict[str, Any]], playbooks: Playbooks
) -> None:
    rendered = set(playbooks.value("app_release", "app_release_secrets"))

    assert {name for name, variable in settings.items() if variable["secret"]} == rendered


def test_the_web_server_reads_exactly_its_environment_file(
    settings: dict[str, dict[str, Any]], service_files: dict[str, str]
) -> None:
    rendered = {line.split("=", 1)[0] for line in service_files["/etc/drumline/web.env"].splitlines()}

    assert set(read_by("gunicorn.conf.py")) - set(settings) == rendered


def test_no_secret_is_in_a_file_that_others_than_the_service_manager_read(
    playbooks: Playbooks, service_files: dict[str, str]
) -> None:
    plain = json.dumps(playbooks.value("app_release", "app_release_env")) + "".join(service_files.values())

    assert "secret-of-" not in plain
