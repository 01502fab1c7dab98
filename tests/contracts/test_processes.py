"""The process model, the units, the supervisor programs and the application's routes agree."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

import pytest
from django.conf import settings

from tests.rendering import PROJECT, Playbooks, load

SUPERVISOR = PROJECT / "supervisor" / "drumline.conf"
UNITS = "/etc/systemd/system/"


@pytest.fixture(scope="session")
def queues() -> dict[str, dict[str, int]]:
    model: dict[str, dict[str, int]] = load(PROJECT / "ansible/group_vars/all/processes.yml")["app_queues"]
    return model


@pytest.fixture(scope="session")
def programs(playbooks: Playbooks) -> dict[str, dict[str, str]]:
    parser = configparser.RawConfigParser()
    parser.read_string(playbooks.text("app_services", SUPERVISOR))
    return {
        section.removeprefix("program:"): dict(parser[section])
        for section in parser.sections()
        if section.startswith("program:")
    }


def environment(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def directive(text: str, name: str) -> str:
    """The last value of a directive, its continuation lines joined."""
    found = re.findall(rf"^{name}=(.*)$", text.replace("\\\n", " "), flags=re.MULTILINE)
    assert found, f"the unit has no {name}"
    return " ".join(str(found[-1]).split())


def test_every_routed_queue_is_in_the_process_model(queues: dict[str, dict[str, int]]) -> None:
    routed = {route["queue"] for route in settings.CELERY_TASK_ROUTES.values()} | {settings.CELERY_TASK_DEFAULT_QUEUE}

    assert routed <= set(queues), "what is sent to such a queue would wait for ever"


def test_the_application_declares_exactly_the_queues_of_the_process_model(queues: dict[str, dict[str, int]]) -> None:
    assert {queue.name for queue in settings.CELERY_TASK_QUEUES} == set(queues)


def test_every_instance_of_the_model_has_its_environment_its_limits_and_a_place_in_the_target(
    queues: dict[str, dict[str, int]], service_files: dict[str, str]
) -> None:
    wanted = directive(service_files[UNITS + "drumline.target"], "Wants").split()
    for queue, numbers in queues.items():
        for number in range(1, numbers["instances"] + 1):
            name = f"{queue}-{number}"
            limits = service_files[f"{UNITS}drumline-worker@{name}.service.d/10-queue.conf"]

            assert f"drumline-worker@{name}.service" in wanted
            assert environment(service_files[f"/etc/drumline/worker/{name}.env"]) == {
                "QUEUE": queue,
                "CONCURRENCY": str(numbers["concurrency"]),
                "PREFETCH": str(numbers["prefetch"]),
                "SOFT_TIME_LIMIT": str(numbers["soft_time_limit"]),
                "TIME_LIMIT": str(numbers["time_limit"]),
                "DRAIN_TIMEOUT": str(numbers["drain_timeout"]),
            }
            assert directive(limits, "MemoryMax") == f"{numbers['memory_mb']}M"
            assert int(directive(limits, "TimeoutStopSec")) > numbers["drain_timeout"]


def test_a_worker_runs_the_same_command_under_both_managers(
    service_files: dict[str, str], programs: dict[str, dict[str, str]]
) -> None:
    unit = directive(service_files[UNITS + "drumline-worker@.service"], "ExecStart")
    workers = {name: program for name, program in programs.items() if name.startswith("worker-")}
    assert workers

    for name, program in workers.items():
        instance = name.removeprefix("worker-")
        command = unit.replace("%i", instance).replace("%l", "%(host_node_name)s")
        for key, value in environment(service_files[f"/etc/drumline/worker/{instance}.env"]).items():
            command = command.replace(f"${{{key}}}", value)

        assert program["command"] == command
        assert program["stopsignal"] == "TERM"
        assert program["stopasgroup"] == "false", "TERM to the children loses what they run"


@pytest.mark.parametrize("process", ["web", "relay", "beat", "flower"])
def test_a_process_runs_the_same_command_in_the_same_folder_under_both_managers(
    process: str, service_files: dict[str, str], programs: dict[str, dict[str, str]]
) -> None:
    unit = service_files[f"{UNITS}drumline-{process}.service"]

    assert programs[process]["command"] == directive(unit, "ExecStart")
    assert programs[process]["directory"] == directive(unit, "WorkingDirectory")
    assert programs[process]["stopwaitsecs"] == directive(unit, "TimeoutStopSec")


def test_the_target_wants_every_process_that_supervisor_would_run(
    service_files: dict[str, str], programs: dict[str, dict[str, str]]
) -> None:
    wanted = directive(service_files[UNITS + "drumline.target"], "Wants").split()
    services = {name.removeprefix("drumline-").removesuffix(".service") for name in wanted if name.endswith(".service")}

    assert {name.replace("@", "-", 1) for name in services} == set(programs)


def test_no_unit_starts_a_shell_or_a_relative_path() -> None:
    for path in Path(PROJECT, "systemd").glob("*.service"):
        for command in re.findall(r"^Exec\w+=(.*)$", path.read_text(), flags=re.MULTILINE):
            assert re.match(r"[-@:+!]*/", command), f"{path.name}: {command} has no absolute path"
            assert not re.search(r"/(ba)?sh ", command), f"{path.name}: {command} starts a shell"


def test_no_unit_template_decides_anything() -> None:
    for path in Path(PROJECT, "systemd").rglob("*"):
        if path.is_file():
            assert "{%" not in path.read_text(), f"{path.name}: another need is another unit"
