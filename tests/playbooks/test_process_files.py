"""One entry of the process model is a process under systemd, under supervisor and under `make dev`."""

from __future__ import annotations

import configparser
import re
import runpy
from typing import Any

from tests.support.paths import ANSIBLE, PROJECT

MODEL = runpy.run_path(str(ANSIBLE / "plugins/filter/process_model.py"))
FILES = runpy.run_path(str(ANSIBLE / "plugins/filter/process_files.py"))
VARIABLES = {"flower_addresses": [], "log_backups": 5, "log_mb": 10, "refused_addresses": ["192.0.2.1"]}
QUEUES = {"high": {"instances": 1, "concurrency": 3, "drain_timeout": 120, "memory_mb": 384, "cpu_weight": 100}}
# All that a project writes for a kind of process of its own.
IMPORTER: dict[str, Any] = {
    "group": "worker",
    "command": "python manage.py import_orders --follow",
    "ready": "notify",
    "watchdog": 30,
    "stop": 20,
    "memory_mb": 300,
    "connections": 1,
    "sandbox": ["caller"],
}


def processes(**kinds: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = MODEL["processes"](kinds, list(kinds), QUEUES, list(QUEUES))
    return found


def units(found: list[dict[str, Any]]) -> dict[str, str]:
    releases = {"/opt/drumline": "/opt/drumline/releases/1d"}
    variables = VARIABLES | {"units": [process["unit"] for process in found]}
    files = FILES["unit_files"](found, str(PROJECT), releases, variables)
    return {file["path"].removeprefix("/etc/systemd/system/"): file["content"] for file in files}


def program(found: list[dict[str, Any]], name: str) -> dict[str, str]:
    configuration, *_ = FILES["program_files"](found, str(PROJECT), VARIABLES)
    parser = configparser.RawConfigParser()
    parser.read_string(configuration["content"])
    return dict(parser[f"program:{name}"])


def test_a_new_kind_is_a_unit_of_the_target_with_its_limits_and_the_sandbox() -> None:
    rendered = units(processes(importer=IMPORTER))

    assert (
        rendered["drumline-importer.service"]
        == """\
[Unit]
Description=Drumline importer
PartOf=drumline.target
After=network-online.target postgresql.service redis-server@broker.service
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
User=drumline
Group=drumline

WorkingDirectory=/opt/drumline/releases/1d
StateDirectory=drumline
StateDirectoryMode=0750
EnvironmentFile=/opt/drumline/releases/1d/app.env
EnvironmentFile=/opt/drumline/releases/1d/secrets.env

ExecStart=/opt/drumline/releases/1d/.venv/bin/python manage.py import_orders --follow
Restart=always
RestartSec=2
TimeoutStartSec=600
WatchdogSec=30
TimeoutStopSec=20

Slice=drumline-importer.slice
MemoryMax=300M
"""
    )
    assert "Wants=drumline-importer.service\n" in rendered["drumline.target"]
    assert "SocketBindDeny=any" in rendered["drumline-importer.service.d/20-caller.conf"]
    assert "IPAddressDeny=192.0.2.1" in rendered["drumline-.service.d/10-sandbox.conf"]


def test_a_new_kind_is_a_program_of_supervisor_with_the_same_limits() -> None:
    importer = program(processes(importer=IMPORTER), "importer")

    assert importer["command"] == (
        "/usr/local/libexec/drumline-run --env=app.env --env=secrets.env"
        " --ready-within=600 --watchdog=30 --memory-mb=300"
        " -- /opt/drumline/current/.venv/bin/python manage.py import_orders --follow"
    )
    assert importer["stopwaitsecs"] == "20"


def test_a_new_kind_runs_under_make_dev_and_is_restarted_when_the_code_changes() -> None:
    assert FILES["development_programs"](processes(importer=IMPORTER), {"importer": IMPORTER}, {}) == [
        {
            "name": "importer",
            "command": "python manage.py import_orders --follow",
            "environment": "",
            "reloads": True,
        }
    ]


def test_a_new_kind_is_checked_restarted_counted_and_taken_off_a_host_again() -> None:
    kinds = {"importer": IMPORTER}
    [process] = processes(importer=IMPORTER)

    assert MODEL["kind_problems"](kinds) == []
    assert MODEL["kinds_on"](kinds, ["worker", "web"]) == ["importer"]
    assert MODEL["kinds_on"](kinds, ["beat"]) == []
    assert MODEL["restart_waves"]([process]) == [["drumline-importer.service"]]
    assert MODEL["restart_waves"]([process], "supervisor") == [["importer"]]
    assert (process["memory_mb"], process["connections"]) == (300, 1)
    assert "drumline-importer.service" in FILES["owned_units"](kinds)
    assert "/etc/systemd/system/drumline-importer.service" in FILES["owned_files"](kinds)
    assert FILES["ran"](["importer  RUNNING  pid 7", "error: no such file"], kinds) == ["importer"]


def test_a_kind_with_variables_and_instances_is_one_template_and_restarts_one_after_the_other() -> None:
    found = processes(importer={**IMPORTER, "instances": ["a", "b"], "variables": {"SHARD_COUNT": 2}})
    rendered = units(found)

    unit = rendered["drumline-importer@.service"]
    assert "Description=Drumline importer %i" in unit
    assert re.findall(r"^EnvironmentFile=(.*)$", unit, re.MULTILINE)[-1] == "/etc/drumline/importer.env"
    assert rendered["/etc/drumline/importer.env"] == "SHARD_COUNT=2\n"
    assert MODEL["restart_waves"](found) == [["drumline-importer@a.service"], ["drumline-importer@b.service"]]


def test_the_memory_drain_and_connections_of_a_worker_are_its_queues() -> None:
    kind = {"group": "worker", "queues": True, "command": "celery --queues={queue}", "ready": "notify", "stop": 30}
    [worker] = processes(worker={**kind, "connections": 2, "connections_per_task": 2})

    assert (worker["memory_mb"], worker["drain"], worker["connections"]) == (384, 120, 8)
    assert program([worker], "worker-high-1")["stopwaitsecs"] == "150"


def test_the_environments_of_the_application_stay_until_no_process_reads_them() -> None:
    kinds = {"importer": IMPORTER, "flower": {**IMPORTER, "environment": ["flower"]}}
    environments = {
        "/etc/drumline/flower.env",
        "/opt/drumline/releases/*/app.env",
        "/opt/drumline/releases/*/secrets.env",
    }

    left = {
        tuple(kept): environments & set(FILES["owned_files"](kinds, kept)) for kept in ([], ["flower"], ["importer"])
    }

    assert left == {
        (): environments,
        ("flower",): environments - {"/etc/drumline/flower.env"},
        ("importer",): {"/etc/drumline/flower.env"},
    }


def test_a_kind_that_cannot_work_is_named_with_its_key() -> None:
    wrong = {"im-porter": IMPORTER, "second": {"command": "x", "memmory_mb": 3, "ready": "soon", "stop": 1}}

    assert [problem.split(".")[1].split()[0] for problem in MODEL["kind_problems"](wrong) if "second" in problem] == [
        "second"
    ] * 4
    told = " ".join(MODEL["kind_problems"](wrong))
    for part in ("named 'im-porter'", "unknown key memmory_mb", "second.group is missing", "second.ready is soon"):
        assert part in told
    assert "second.memory_mb is missing" in told


def test_a_daemon_and_a_timer_of_the_project_are_units_with_the_same_sandbox_and_limits() -> None:
    own = MODEL["with_own"](
        {},
        {"bot": {"command": "python bot.py"}},
        {"clean": {"command": "python manage.py clearsessions", "calendar": "daily"}},
    )
    found = processes(**own)
    rendered = units(found)

    assert [process["unit"] for process in found] == ["drumline-daemon-bot.service", "drumline-timer-clean.timer"]
    assert "ExecStart=/opt/drumline/releases/1d/.venv/bin/python bot.py" in rendered["drumline-daemon-bot.service"]
    assert "Restart=always" in rendered["drumline-daemon-bot.service"]
    assert "OnCalendar=daily" in rendered["drumline-timer-clean.timer"]
    assert "Type=oneshot" in rendered["drumline-timer-clean.service"]
    assert {
        f"{name}.d/20-caller.conf" for name in ("drumline-daemon-bot.service", "drumline-timer-clean.service")
    } <= set(rendered)
    assert program(found[:1], "daemon-bot")["command"].endswith("-- /opt/drumline/current/.venv/bin/python bot.py")


def test_a_daemon_that_the_project_no_longer_has_is_stopped_and_what_a_timer_started_is_left_to_end() -> None:
    owned = FILES["owned_units"]({})

    assert {"drumline-daemon-*.service", "drumline-timer-*.timer"} <= set(owned)
    assert FILES["ran"](["daemon-bot RUNNING", "stranger RUNNING"], {}) == ["daemon-bot"]


def test_an_exception_from_the_sandbox_is_set_after_it_with_its_reason_and_for_its_kind_alone() -> None:
    exception = {"process": "importer", "set": "MemoryDenyWriteExecute=no", "reason": "numba compiles while it runs"}
    kinds = MODEL["with_exceptions"]({"importer": IMPORTER, "other": IMPORTER}, [exception])
    rendered = units(processes(**kinds))

    assert rendered["drumline-importer.service.d/30-exceptions.conf"].endswith(
        "[Service]\n# numba compiles while it runs\nMemoryDenyWriteExecute=no\n"
    )
    assert "=" not in rendered["drumline-other.service.d/30-exceptions.conf"], (
        "there also without any, or none could go"
    )


def test_what_is_wrong_with_an_exception_from_the_sandbox_is_said() -> None:
    right = {"process": "importer", "set": "MemoryDenyWriteExecute=no", "reason": "numba"}

    def problems(manager: str = "systemd", **changes: Any) -> list[str]:
        given = {key: value for key, value in (right | changes).items() if value is not None}
        said: list[str] = MODEL["exception_problems"](
            [given], {"importer": IMPORTER}, "PrivateTmp=yes\nMemoryDenyWriteExecute=yes\n", manager
        )
        return said

    assert problems() == []
    for said, changes in {
        "app_sandbox_exceptions[0].process is 'imporetr'. Kinds of process are importer.": {"process": "imporetr"},
        "[0].set is 'User=root'. It must be DIRECTIVE=VALUE, of MemoryDenyWriteExecute, PrivateTmp.": {
            "set": "User=root"
        },
        "[0].set is 'PrivateTmp'.": {"set": "PrivateTmp"},
        "[0].reason is 'missing'.": {"reason": None},
        "[0].reason is 'a\\nUser=root'. Write it as text in one line.": {"reason": "a\nUser=root"},
        "[0] has the unknown key why.": {"why": "numba"},
        "needs app_process_manager: systemd": {"manager": "supervisor"},
    }.items():
        [problem] = problems(**changes)
        assert said in problem


def test_what_is_wrong_with_a_daemon_or_a_timer_is_said() -> None:
    problems = MODEL["own_problems"]({"Bot": {"comand": "x"}}, {"clean": {"command": "x"}}, "supervisor")

    assert len(problems) == 5
    for said in (
        "app_timers needs",
        "has 'Bot'",
        "unknown key comand",
        "app_daemons.Bot.command",
        "app_timers.clean.calendar",
    ):
        assert any(said in problem for problem in problems), said
