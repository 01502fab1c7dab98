"""The settings read exactly what the playbook renders, secrets apart from the rest."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from drumline import hosting
from tests.conftest import SECRETS
from tests.support.paths import ANSIBLE, PROJECT
from tests.support.rendering import Playbooks, load

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


# What the settings read, and beside it only what other projects call the same (fleet_environment).
def test_every_plain_variable_that_the_settings_read_is_rendered_and_the_reverse(
    settings: dict[str, dict[str, Any]], playbooks: Playbooks
) -> None:
    rendered = set(playbooks.value("app_release", "app_release_env")) | {"DJANGO_SETTINGS_MODULE"}
    read = {name for name, variable in settings.items() if not variable["secret"]}

    assert read <= rendered
    assert rendered - read <= set(playbooks.value("app_release", "fleet_environment"))


def test_every_secret_that_the_settings_read_is_rendered_apart_and_the_reverse(
    settings: dict[str, dict[str, Any]], playbooks: Playbooks
) -> None:
    rendered = set(playbooks.value("app_release", "app_release_secrets"))
    read = {name for name, variable in settings.items() if variable["secret"]}

    assert read <= rendered
    assert rendered - read <= set(playbooks.value("app_release", "fleet_environment"))


def test_the_web_server_reads_exactly_its_environment_file(service_files: dict[str, str]) -> None:
    rendered = {line.split("=", 1)[0] for line in service_files["/etc/drumline/web.env"].splitlines()}
    read = re.findall(r"\bWEB_[A-Z_]+\b", Path(hosting.__file__).with_name("gunicorn.py").read_text())

    assert set(read) == rendered


def test_no_secret_is_in_a_file_that_others_than_the_service_manager_read(
    playbooks: Playbooks, service_files: dict[str, str]
) -> None:
    plain = json.dumps(playbooks.value("app_release", "app_release_env")) + "".join(service_files.values())

    assert "secret-of-" not in plain


def test_a_rollback_takes_names_and_commands_from_the_release_and_secrets_and_limits_from_today() -> None:
    before = Playbooks(
        "production",
        "app1.example.com",
        **SECRETS,
        app_env={"CRM_URL": "https://before.example.com"},
        app_environment={"SITE_DB": "{database.url}"},
        app_settings={"ADMINS": ["{email.from}"]},
        app_wsgi="before.wsgi:application",
        app_daemons={"bot": {"command": "python bot.py"}},
    )
    kept = json.loads(json.dumps(before.value("app_release", "app_release_contract")))
    rotated = SECRETS | {"vault_postgresql_password": "secret-of-today"}
    now = Playbooks("production", "app1.example.com", **rotated, app_admin_second_factor="required", **kept)
    env, secret = (now.value("app_release", f"app_release_{name}") for name in ("env", "secrets"))

    assert "secret-of-" not in json.dumps(kept)
    assert (env["CRM_URL"], env["ADMIN_SECOND_FACTOR"]) == ("https://before.example.com", "required")
    assert "secret-of-today" in secret["SITE_DB"]
    assert secret["SITE_DB"] == secret["DATABASE_URL"]
    assert env["DB_USER"] in secret["SITE_DB"]
    assert "ADMINS" in json.loads(secret["HOSTED_SETTINGS"])
    assert "before.wsgi:application" in now.value("app_services", "app_services_kinds.web.command")
    assert now.value("app_services", "app_services_kinds['daemon-bot'].command") == "python bot.py"


def test_what_a_release_keeps_is_all_of_the_contract_that_its_processes_are_made_from(playbooks: Playbooks) -> None:
    """What only the build, the host or the web server reads is not the process's."""
    _, _, commands = (ANSIBLE / "group_vars/all/processes.yml").read_text().partition("\napp_processes:")
    used = set(re.findall(r"\bapp_[a-z_]+", commands)) & set(load(ANSIBLE / "group_vars/all/contract.yml"))

    assert used <= set(playbooks.value("app_release", "app_release_contract"))


def test_a_name_of_the_projects_own_is_a_template_over_what_the_fleet_provides() -> None:
    own = {
        "SITE_DB": "{database.host}:{database.port}",
        "SITE_DSN": "x={database.password}",
        "DEBUG": None,
        "C": "{cache_url}",
    }
    project = Playbooks("production", "app1.example.com", **SECRETS, app_environment=own)
    plain, secret = (project.value("app_release", f"app_release_{kind}") for kind in ("env", "secrets"))

    assert plain["SITE_DB"] == "127.0.0.1:5432"
    assert secret["SITE_DSN"] == "x=secret-of-vault_postgresql_password"
    assert {"DEBUG", "C", "REDIS_URL"} & {*plain, *secret} == set()


@pytest.mark.parametrize(
    ("template", "said"),
    [("{databse.host}", "names {databse.host}, which is none of broker_url"), ("{database", "cannot be read")],
)
def test_a_template_that_names_nothing_is_refused(template: str, said: str) -> None:
    project = Playbooks("production", "app1.example.com", **SECRETS, app_environment={"X": template})

    [problem] = project.value("preflight", "__environment | environment_problems(__environment_values)")
    assert f"app_environment.X {said}" in problem


def test_a_project_that_is_hosted_gets_its_settings_and_the_ledger_by_variables() -> None:
    project = Playbooks(
        "production", "app1.example.com", **SECRETS, app_ledger=True, app_settings={"A": [1, "{x} {email.port}"]}
    )
    env = project.value("app_release", "app_release_env") | project.value("app_release", "app_release_secrets")

    assert project.value("app_release", "app_release_settings_module") == "drumline.hosting.settings"
    assert (env["HOSTED_LEDGER"], json.loads(env["HOSTED_SETTINGS"])) == ("true", {"A": [1, "{x} 587"]})
    assert "relay" in project.value("app_services", "app_services_processes")
    without = Playbooks("production", "app1.example.com", **SECRETS, app_ledger=False)
    assert "relay" not in without.value("app_services", "app_services_processes")


@pytest.mark.parametrize(("ledger", "beside"), [(True, False), ("project", False), (False, True)])
def test_the_ledger_has_its_driver_where_the_project_has_another_one(ledger: object, beside: object) -> None:
    needs = Playbooks("production", "app1.example.com", app_ledger=ledger).value("app_release", "app_release_needs")
    [driver] = [need for need in needs if need["add"].startswith("psycopg")]

    assert "psycopg" in driver["unless"]
    assert ("psycopg2" in driver["unless"]) == beside
