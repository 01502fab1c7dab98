"""`make dev` runs the processes of a host by their commands; what differs is written here."""

from __future__ import annotations

import configparser
import json
import re
import runpy
import subprocess
import sys
from typing import Any

import pytest

from tests.support.paths import PROJECT
from tests.support.rendering import Playbooks

UNITS = "/etc/systemd/system/"
# What a host has from elsewhere: its broker, its mail server, and releases instead of a reload.
BESIDE = {"redis", "mail", "reload"}
DIFFERENT = {
    "web": (
        "gunicorn --config=python:drumline.hosting.gunicorn config.wsgi:application",
        "python manage.py runserver --noreload 127.0.0.1:1",
    ),
    "flower": ("--unix-socket=/run/drumline-flower/flower.sock", "--address=127.0.0.1 --port=2"),
}


@pytest.fixture(scope="module")
def launcher() -> dict[str, Any]:
    return runpy.run_path(str(PROJECT / "supervisor/development.py"))


@pytest.fixture(scope="module")
def configuration(launcher: dict[str, Any]) -> configparser.RawConfigParser:
    ports = {use: number for number, use in enumerate(launcher["PORTS"], start=1)}
    parser = configparser.RawConfigParser()
    parser.read_string(launcher["configuration"](launcher["process_model"](ports), ports))
    return parser


@pytest.fixture(scope="module")
def programs(configuration: configparser.RawConfigParser) -> dict[str, dict[str, str]]:
    sections = [name for name in configuration.sections() if name.startswith("program:")]
    return {name.removeprefix("program:"): dict(configuration[name]) for name in sections}


def command_on_a_host(program: str, service_files: dict[str, str]) -> str:
    """A unit's command line without the folders of a host; of a worker, with its numbers."""
    kind, _, instance = program.partition("-")
    # Django's own server is one process, where a host has two instances.
    name = f"drumline-{kind}@.service" if instance or kind == "web" else f"drumline-{kind}.service"
    [command] = re.findall(r"^ExecStart=(.*)$", service_files[UNITS + name].replace("\\\n", " "), flags=re.MULTILINE)
    command = " ".join(re.sub(r"/opt/drumline/\S+/bin/", "", command).split())
    command = command.replace("%i", instance).replace("%l", "%(host_node_name)s")
    for line in service_files.get(f"/etc/drumline/worker/{instance}.env", "").splitlines():
        key, _, value = line.partition("=")
        command = command.replace(f"${{{key}}}", value)
    return command


def test_every_process_of_a_host_runs_in_development_and_one_worker_for_each_queue(
    programs: dict[str, dict[str, str]], service_files: dict[str, str]
) -> None:
    services = re.findall(r"drumline-(\S+)\.service", service_files[UNITS + "drumline.target"])
    first = {name.replace("@", "-") for name in services if "@" not in name or name.endswith("-1")} | {"web"}

    assert "worker-high-1" in first
    assert set(programs) - BESIDE == first


def test_a_process_runs_the_command_of_its_unit(
    programs: dict[str, dict[str, str]], service_files: dict[str, str]
) -> None:
    for name, program in programs.items():
        if name not in BESIDE:
            here = command_on_a_host(name, service_files).replace(*DIFFERENT.get(name, ("", "")))

            assert program["command"] == here


def test_a_process_is_asked_to_stop_as_on_a_host_and_leaves_no_child_behind(
    programs: dict[str, dict[str, str]],
) -> None:
    for program in programs.values():
        assert program["stopsignal"] == "TERM"
        assert program["stopasgroup"] == "false", "TERM to the children loses what they run"
        assert program["killasgroup"] == "true"


def test_whatever_runs_the_application_is_restarted_when_its_code_changes(
    configuration: configparser.RawConfigParser, programs: dict[str, dict[str, str]]
) -> None:
    assert set(configuration["group:drumline"]["programs"].split(",")) == set(programs) - BESIDE - {"flower"}
    assert programs["reload"]["command"].endswith(" drumline")


def test_the_environment_is_what_the_settings_read_with_the_visibility_timeout_of_the_hosts(
    launcher: dict[str, Any], playbooks: Playbooks
) -> None:
    ports = dict.fromkeys(launcher["PORTS"], 1)
    given = launcher["environment"](ports, launcher["process_model"](ports)["limits"])
    listing = subprocess.run(
        [sys.executable, "-m", "config.env", "config.settings.development"],
        cwd=PROJECT / "app",
        env=given,
        capture_output=True,
        text=True,
        check=True,
    )
    read = {variable["name"] for variable in json.loads(listing.stdout)}

    assert set(given) - read == {"PATH", "PYTHONUNBUFFERED", "SITE"}
    hosts = playbooks.value("app_release", "app_release_env")
    limits = {
        name: value for name, value in given.items() if name.startswith("CELERY_") and name != "CELERY_BROKER_URL"
    }
    assert limits == {name: str(value) for name, value in hosts.items() if name.startswith("CELERY_")}
