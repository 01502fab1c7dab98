"""The process model, the units, the supervisor programs and the application's routes agree."""

from __future__ import annotations

import configparser
import re
import shlex
from pathlib import Path
from typing import NamedTuple

import pytest
from django.conf import settings

from tests.conftest import SECRETS
from tests.support.paths import ANSIBLE, PROJECT
from tests.support.rendering import Playbooks, load

UNITS = "/etc/systemd/system/"


class Program(NamedTuple):
    """A program of supervisor: its settings, the command, and how drumline-run is to run it."""

    settings: dict[str, str]
    command: str
    options: dict[str, str]
    environment_files: list[str]


@pytest.fixture(scope="session")
def queues() -> dict[str, dict[str, int]]:
    model: dict[str, dict[str, int]] = load(PROJECT / "ansible/group_vars/all/processes.yml")["app_queues"]
    return model


@pytest.fixture(scope="session")
def configuration(supervisor_files: dict[str, str]) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser()
    parser.read_string(supervisor_files["/etc/drumline/supervisor.conf"])
    return parser


@pytest.fixture(scope="session")
def programs(configuration: configparser.RawConfigParser) -> dict[str, Program]:
    return {
        section.partition(":")[2]: program(dict(configuration[section]))
        for section in configuration.sections()
        if section.startswith(("program:", "fcgi-program:"))
    }


def program(settings: dict[str, str]) -> Program:
    run, command = settings["command"].split(" -- ")
    path, *arguments = shlex.split(run)
    assert path == "/usr/local/libexec/drumline-run"
    options = [argument.removeprefix("--").split("=", 1) for argument in arguments]
    # A relative one is the release's.
    files = [str(Path(settings["directory"], value)) for name, value in options if name == "env"]
    return Program(settings, command, {name: value for name, value in options if name != "env"}, files)


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
                "POOL": "prefork",
                "CONCURRENCY": str(numbers["concurrency"]),
                "PREFETCH": str(numbers["prefetch"]),
                "SOFT_TIME_LIMIT": str(numbers["soft_time_limit"]),
                "TIME_LIMIT": str(numbers["time_limit"]),
                "DRAIN_TIMEOUT": str(numbers["drain_timeout"]),
            }
            assert directive(limits, "MemoryMax") == f"{numbers['memory_mb']}M"
            assert int(directive(limits, "TimeoutStopSec")) > numbers["drain_timeout"]


def directives(text: str, name: str) -> list[str]:
    """All values of a directive, in their order."""
    return re.findall(rf"^{name}=(.*)$", text, flags=re.MULTILINE)


def test_a_worker_runs_the_same_command_under_both_managers(
    service_files: dict[str, str], supervisor_files: dict[str, str], programs: dict[str, Program]
) -> None:
    unit = service_files[UNITS + "drumline-worker@.service"]
    workers = {name.removeprefix("worker-"): one for name, one in programs.items() if name.startswith("worker-")}
    assert workers

    for instance, worker in workers.items():
        command = directive(unit, "ExecStart").replace("%i", instance).replace("%l", "%(host_node_name)s")
        numbers = environment(supervisor_files[f"/etc/drumline/worker/{instance}.env"])
        for key, value in numbers.items():
            command = command.replace(f"${{{key}}}", value)
        files = [file.replace("%i", instance) for file in directives(unit, "EnvironmentFile")]

        assert worker.command == command
        assert worker.environment_files == files
        assert numbers == environment(service_files[f"/etc/drumline/worker/{instance}.env"])


def test_a_worker_stops_in_the_same_steps_under_both_managers(
    service_files: dict[str, str], programs: dict[str, Program]
) -> None:
    unit = service_files[UNITS + "drumline-worker@.service"]
    assert directive(unit, "ExecStop") == "/usr/local/libexec/drumline-drain $MAINPID ${DRAIN_TIMEOUT}"

    for name, worker in programs.items():
        if name.startswith("worker-"):
            instance = name.removeprefix("worker-")
            limits = service_files[f"{UNITS}drumline-worker@{instance}.service.d/10-queue.conf"]
            numbers = environment(service_files[f"/etc/drumline/worker/{instance}.env"])

            assert worker.options["drain"] == numbers["DRAIN_TIMEOUT"]
            assert worker.settings["stopwaitsecs"] == directive(limits, "TimeoutStopSec")
            assert f"{worker.options['memory-mb']}M" == directive(limits, "MemoryMax")


@pytest.mark.parametrize("process", ["web", "relay", "beat", "flower"])
def test_a_process_is_the_same_under_both_managers(
    process: str, service_files: dict[str, str], programs: dict[str, Program]
) -> None:
    unit = service_files[f"{UNITS}drumline-{'web@' if process == 'web' else process}.service"]

    assert programs[process].command == directive(unit, "ExecStart")
    assert programs[process].environment_files == directives(unit, "EnvironmentFile")
    assert programs[process].settings["directory"] == directive(unit, "WorkingDirectory")
    assert programs[process].settings["stopwaitsecs"] == directive(unit, "TimeoutStopSec")
    assert f"{programs[process].options['memory-mb']}M" == directive(unit, "MemoryMax")


def test_a_process_is_watched_in_the_same_way_under_both_managers(
    service_files: dict[str, str], programs: dict[str, Program]
) -> None:
    for name, one in programs.items():
        template = {"web": "web@"}.get(name, "worker@" if name.startswith("worker-") else name)
        unit = service_files[f"{UNITS}drumline-{template}.service"]
        notifies = directive(unit, "Type") == "notify"

        assert one.options.get("ready-within") == (directive(unit, "TimeoutStartSec") if notifies else None), name
        assert one.options.get("watchdog") == (directives(unit, "WatchdogSec") or [None])[-1], name


def test_every_program_is_started_again_and_stopped_by_its_main_process_alone(programs: dict[str, Program]) -> None:
    for name, one in programs.items():
        assert one.settings["autorestart"] == "true", name
        assert int(one.settings["startretries"]) > 100_000, name
        assert one.settings["stopsignal"] == "TERM", name
        assert one.settings["stopasgroup"] == "false", "TERM to the children loses what they run"
        assert one.settings["killasgroup"] == "true", name


def test_a_process_writes_files_that_no_other_user_reads_under_both_managers(
    service_files: dict[str, str], programs: dict[str, Program]
) -> None:
    sandbox = service_files[UNITS + "drumline-.service.d/10-sandbox.conf"]

    assert {int(one.settings["umask"], 8) for one in programs.values()} == {int(directive(sandbox, "UMask"), 8)}


def test_a_lighter_queue_gives_way_as_its_cpu_weight_says(
    queues: dict[str, dict[str, int]], programs: dict[str, Program]
) -> None:
    heaviest = max(numbers["cpu_weight"] for numbers in queues.values())
    for queue, numbers in queues.items():
        share = 1.25 ** -int(programs[f"worker-{queue}-1"].options["nice"])

        assert share == pytest.approx(numbers["cpu_weight"] / heaviest, rel=0.12), queue


def test_the_web_has_its_socket_at_the_same_place_under_both_managers(
    service_files: dict[str, str], programs: dict[str, Program]
) -> None:
    unit, web = service_files[UNITS + "drumline-web.socket"], programs["web"].settings

    assert web["socket"] == f"unix://{directive(unit, 'ListenStream')}"
    assert web["socket_backlog"] == directive(unit, "Backlog")
    assert web["numprocs"] == "3", "alone, gunicorn would take the socket with it when it restarts"


def test_the_socket_is_stopped_with_the_target_and_stays_while_the_target_restarts(
    service_files: dict[str, str],
) -> None:
    socket = service_files[UNITS + "drumline-web.socket"]

    assert directive(socket, "StopWhenUnneeded") == "yes"
    for name in ("PartOf", "StopPropagatedFrom"):
        assert directives(socket, name) == [], "it propagates a restart, too, which closes the socket"
    assert directive(socket, "Service") == "drumline-web-idle.service", "a request would start what was stopped"


def test_web_is_never_restarted_as_a_whole(playbooks: Playbooks, service_files: dict[str, str]) -> None:
    waves: list[list[str]] = playbooks.value("app_services", "__app_services_waves")

    web = [[unit for unit in wave if unit.startswith("drumline-web@")] for wave in waves]

    assert [wave for wave in web if wave] == [["drumline-web@1.service"], ["drumline-web@2.service"]]
    assert directive(service_files[UNITS + "drumline-web@.service"], "Sockets") == "drumline-web.socket"


def test_the_target_wants_every_process_that_supervisor_would_run(
    service_files: dict[str, str], programs: dict[str, Program]
) -> None:
    wanted = directive(service_files[UNITS + "drumline.target"], "Wants").split()
    services = {name.removeprefix("drumline-").removesuffix(".service") for name in wanted if name.endswith(".service")}

    assert {re.sub(r"^web@\d$", "web", name).replace("@", "-", 1) for name in services} == set(programs)


def test_workers_restart_on_all_hosts_before_anything_that_sends_tasks(playbooks: Playbooks) -> None:
    workers: list[list[str]] = playbooks.value("app_services", "__app_services_worker_waves")
    waves: list[list[str]] = playbooks.value("app_services", "__app_services_waves")
    first, second = [
        task["unit_set"] for task in load(ANSIBLE / "roles/app_services/tasks/units.yml") if "unit_set" in task
    ]

    assert workers == waves[: len(workers)], "a task is one step for all hosts: the next begins when all have ended it"
    assert all(unit.startswith("drumline-worker@") for wave in workers for unit in wave)
    assert not any(unit.startswith("drumline-worker@") for wave in waves[len(workers) :] for unit in wave)
    assert (first["waves"], second["waves"]) == ("{{ __app_services_worker_waves }}", "{{ __app_services_waves }}")
    assert "processes" in second["restarted"], "the workers must stay up, too"


def test_every_process_of_supervisor_is_restarted_and_those_of_the_web_one_after_the_other(
    playbooks: Playbooks, programs: dict[str, Program]
) -> None:
    waves: list[list[str]] = playbooks.value("app_services", "__app_services_program_waves")

    named = {process.partition(":")[0] for wave in waves for process in wave}

    assert named == set(programs)
    web = [[process for process in wave if process.startswith("web:")] for wave in waves]
    assert [group for group in web if group] == [[f"web:web-{number}"] for number in range(3)], (
        "together they would let go of the socket"
    )
    for wave in waves:
        queues = [process.rsplit("-", 1)[0] for process in wave]
        assert len(set(queues)) == len(queues), "a queue would be without a consumer"


def test_supervisor_answers_its_own_user_alone_and_bounds_its_log(
    configuration: configparser.RawConfigParser, supervisor_files: dict[str, str]
) -> None:
    boot = supervisor_files[UNITS + "drumline-supervisor.service"]
    socket = Path(configuration["unix_http_server"]["file"])

    assert configuration["unix_http_server"]["chmod"] == "0700"
    assert "inet_http_server" not in configuration
    assert str(socket.parent) == f"/run/{directive(boot, 'RuntimeDirectory')}"
    assert directive(boot, "RuntimeDirectoryMode") == "0700"
    assert directive(boot, "User") == "drumline"
    assert configuration["supervisord"]["logfile_maxbytes"] == "10MB"


def test_the_host_waits_for_the_longest_stop_of_a_program(
    supervisor_files: dict[str, str], programs: dict[str, Program]
) -> None:
    boot = supervisor_files[UNITS + "drumline-supervisor.service"]
    longest = max(int(one.settings["stopwaitsecs"]) for one in programs.values())

    assert int(directive(boot, "TimeoutStopSec")) > longest


def test_no_program_names_a_secret(supervisor_files: dict[str, str]) -> None:
    assert "secret-of-" not in "".join(supervisor_files.values())


def test_no_unit_starts_a_shell_or_a_relative_path(service_files: dict[str, str]) -> None:
    for path, text in service_files.items():
        for command in re.findall(r"^Exec(?!Paths)\w+=(.*)$", text, flags=re.MULTILINE):
            # An empty line takes back nothing and starts nothing.
            assert not command or re.match(r"[-@:+!]*/", command), f"{path}: {command} has no absolute path"
            assert not re.search(r"/(ba)?sh ", command), f"{path}: {command} starts a shell"


def test_a_unit_starts_from_the_folder_of_a_release_and_from_no_link_that_moves() -> None:
    known = Playbooks(
        "production",
        "app1.example.com",
        __app_services_resolved={"stdout_lines": ["/opt/drumline/releases/1d", "/opt/drumline/flower/2e"]},
        **SECRETS,
    )
    services = {
        file["path"]: file["content"]
        for file in known.value("app_services", "__app_services_files")
        if file["path"].endswith(".service") and "ExecStart=/opt" in file["content"]
    }

    assert len(services) == 5
    for path, text in services.items():
        release = "/opt/drumline/flower/2e" if "flower" in path else "/opt/drumline/releases/1d"
        assert directive(text, "WorkingDirectory") == release
        assert directive(text, "ExecStart").startswith(f"{release}/.venv/bin/")
        assert "/current" not in text


def test_what_supervisor_runs_finds_the_release_itself_so_that_a_deploy_changes_no_program(
    programs: dict[str, Program],
) -> None:
    for name, one in programs.items():
        assert one.command.startswith(f"{one.settings['directory']}/.venv/bin/"), name
        assert one.settings["directory"].endswith("/current"), name


def test_no_unit_template_decides_anything() -> None:
    for path in Path(PROJECT, "systemd").rglob("*"):
        if path.is_file():
            assert "{%" not in path.read_text(), f"{path.name}: another need is another unit"
