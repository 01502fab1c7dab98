"""The application of a host whose processes supervisor runs: the same promises, without systemd."""

from __future__ import annotations

import json
import re
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.on_host import last_line, run_site
from tests.support.source import copy_source
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from testinfra.host import Host

UNITS = ["drumline-supervisor.service"]
LOGS = "/var/log/drumline"
RUN = "/run/drumline-supervisor"
SOCKET = f"{RUN}/supervisor.sock"

BACK_SECONDS = 240
TASKS = 16
BUSY_SECONDS = 5
DONE_SECONDS = 240

SEND = f"""
from drumline.tasks import ping
print(*[ping.apply_async(args=[{BUSY_SECONDS}], queue="high").id for _ in range({TASKS})])
"""
STATES = """
import json, sys
from drumline.models import DurableTask
rows = DurableTask.objects.filter(id__in=sys.stdin.read().split())
print(json.dumps(sorted(row.get_state_display() for row in rows.only("state"))))
"""
# What each program runs, without what ran before it: a program's own processes know its name.
FAMILIES = """
import json, os, sys
families = {}
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        environment = dict(
            variable.split("=", 1) for variable in open(f"/proc/{pid}/environ").read().split("\\0") if "=" in variable
        )
        parent = int(open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[1])
        name = environment["SUPERVISOR_PROCESS_NAME"]
        told = {"pid": int(pid), "parent": parent, "cwd": os.readlink(f"/proc/{pid}/cwd"), "uid": os.stat(f"/proc/{pid}").st_uid,
                "nice": os.getpriority(os.PRIO_PROCESS, int(pid)), "command": open(f"/proc/{pid}/cmdline").read()}
        families.setdefault(name, []).append(told)
    except (OSError, KeyError):
        continue
print(json.dumps(families))
"""


@pytest.fixture
def secrets(request: pytest.FixtureRequest) -> Path:
    """The folder of the generated secrets, within that of the inventory."""
    return Path(request.config.getoption("--secrets"))


@pytest.fixture
def second(tmp_path: Path) -> Path:
    """The source of another release."""
    copy_source(tmp_path)
    (tmp_path / "app" / "second").write_text("The second release.\n")
    return tmp_path


def expected(model: dict[str, Any]) -> set[str]:
    workers = {
        f"worker-{queue}-{number}"
        for queue, numbers in model["app_queues"].items()
        for number in range(1, numbers["instances"] + 1)
    }
    return workers | {"web:web-0", "web:web-1", "web:web-2", "relay", "beat", "flower"}


def running(host: Host) -> dict[str, int]:
    """The main process of each program that runs and has said that it is ready."""
    told = host.run(f"drumline-supervisorctl status; tail --verbose {RUN}/*.ready")
    ready = dict(re.findall(rf"==> {RUN}/(\S+)\.ready <==\n(\d+)", told.stdout))
    states = re.findall(r"^(\S+) +RUNNING +pid (\d+),", told.stdout, flags=re.MULTILINE)
    return {name: int(pid) for name, pid in states if ready.get(name if ":" in name else f"{name}:{name}") == pid}


def families(host: Host) -> dict[str, list[dict[str, Any]]]:
    """The processes of each program."""
    found: dict[str, list[dict[str, Any]]] = json.loads(host.check_output(f"python3 -c '{FAMILIES}'"))
    return found


def commands(host: Host) -> dict[str, dict[str, Any]]:
    """The process of each program that drumline-run started: the worker's, gunicorn's ..."""
    found = {}
    for name, members in families(host).items():
        main = next((one for one in members if "drumline-run" in one["command"]), None)
        command = next((one for one in members if main and one["parent"] == main["pid"]), None)
        if command:
            found[name] = command
    return found


@pytest.fixture
def busy(host: Host) -> str:
    """Tasks of which the first are running."""
    identities = last_line(host, SEND)
    assert len(identities.split()) == TASKS
    wait_until(
        lambda: "Running" in json.loads(last_line(host, STATES, identities)),
        "a task is started",
        seconds=DONE_SECONDS,
    )
    return identities


def all_done(host: Host, identities: str) -> None:
    states: list[str] = []

    def done() -> bool:
        states[:] = json.loads(last_line(host, STATES, identities))
        return states == ["Finished"] * TASKS

    wait_until(done, lambda: f"of {TASKS} tasks these are known: {states}", seconds=DONE_SECONDS)


# --- what only looks


def test_every_process_of_the_model_runs_and_is_ready(host: Host, model: dict[str, Any]) -> None:
    assert set(running(host)) == expected(model)


def test_no_process_has_ended_by_itself_since_supervisor_was_started(host: Host) -> None:
    log = host.check_output(f"cat {LOGS}/supervisord.log").rpartition("supervisord started")[2]

    assert [line for line in log.splitlines() if "not expected" in line] == []


def test_systemd_starts_supervisor_with_the_host_and_runs_nothing_else_of_the_application(host: Host) -> None:
    assert host.service("drumline-supervisor").is_enabled
    listed = host.check_output(
        "systemctl list-units --all --plain --no-legend 'drumline-w*' 'drumline-beat*' 'drumline-relay*'"
    )
    assert listed == ""


def test_nothing_runs_as_root(host: Host, model: dict[str, Any]) -> None:
    user = int(host.check_output("id -u drumline"))
    supervisord = host.check_output("systemctl show -P MainPID drumline-supervisor")
    running_as = {name: {one["uid"] for one in members} for name, members in families(host).items()}

    assert host.check_output(f"stat -c %u /proc/{supervisord}") == str(user)
    assert running_as == {name.rpartition(":")[2]: {user} for name in expected(model)}


def test_every_program_lives_in_the_sandbox_of_a_service(host: Host, model: dict[str, Any]) -> None:
    """How systemd rates it is among what tests/hosts/test_exposure.py asserts."""
    found = commands(host)
    assert found.keys() == {name.rpartition(":")[2] for name in expected(model)} - {"web-0"}
    for name, process in found.items():
        status = dict(
            line.split(":\t", 1) for line in host.check_output(f"cat /proc/{process['pid']}/status").splitlines()
        )
        assert (status["NoNewPrivs"], status["Seccomp"], int(status["CapBnd"], 16)) == ("1", "2", 0), name
        inside = f"nsenter --target {process['pid']} --mount --"
        for path in ("/etc/drumline/x", "/var/lib/x"):
            assert "Read-only file system" in host.run(f"{inside} touch {path}").stderr, f"{name} may write {path}"
        kept = f"{LOGS}/{name}.x /var/lib/drumline/{name}.x"
        host.check_output(f"{inside} touch {kept} && rm {kept}")
        copied = f"{inside} sh -c 'cp /usr/bin/true /var/lib/drumline/true && /var/lib/drumline/true'"
        assert "Permission denied" in host.run(copied).stderr, f"{name} may execute what it has written"
    host.check_output("rm --force /var/lib/drumline/true")


def test_supervisor_answers_its_own_user_alone(host: Host) -> None:
    ask = f'import socket; socket.socket(socket.AF_UNIX).connect("{SOCKET}")'
    assert host.run(f"runuser -u drumline -- python3 -c '{ask}'").rc == 0
    for user in ("nobody", "www-data", "admin"):
        assert "PermissionError" in host.run(f"runuser -u {user} -- python3 -c '{ask}'").stderr, user
    assert host.file(SOCKET).mode == 0o700
    assert host.check_output("ss --no-header --listening --tcp --processes | grep -c supervisord || true") == "0"


def test_no_secret_is_in_a_command_line_or_where_another_user_reads_it(host: Host, secrets: Path) -> None:
    values = [
        (secrets / name).read_text().strip()
        for name in ("django_secret_key", "postgresql_password", "redis_app_password", "redis_flower_password")
    ]
    told = host.check_output("cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '")
    configuration = host.check_output("cat /etc/drumline/supervisor.conf")

    assert [secret for secret in values if secret in told or secret in configuration] == []
    for user in ("nobody", "www-data", "admin"):
        for file in (
            "/opt/drumline/current/secrets.env",
            *map("/etc/drumline/{}".format, ("flower.env", "supervisor.conf")),
        ):
            assert host.run(f"runuser -u {user} -- cat {file}").rc != 0, (user, file)
        assert host.run(f"runuser -u {user} -- cat {LOGS}/supervisord.log").rc != 0, user


def test_a_lighter_queue_gives_way(host: Host, model: dict[str, Any]) -> None:
    found = families(host)
    nice = {queue: {one["nice"] for one in found[f"worker-{queue}-1"]} for queue in model["app_queues"]}

    assert nice == {"high": {0}, "default": {6}, "low": {12}}


def test_every_program_runs_the_current_release(host: Host) -> None:
    release = host.check_output("readlink /opt/drumline/current")

    assert {name: one["cwd"] for name, one in commands(host).items() if one["cwd"] != release} == {
        "flower": host.check_output("readlink /opt/drumline/flower/current")
    }


def test_a_log_that_is_full_begins_anew(host: Host) -> None:
    pid = running(host)["worker-low-1"]

    host.check_output(f"head -c 1200000 /dev/zero | tr '\\0' x | fold -w 200 > /proc/{pid}/fd/1")

    wait_until(
        lambda: host.file(f"{LOGS}/worker-low-1.log.1").exists,
        lambda: str(host.run(f"ls -l {LOGS}").stdout),
        seconds=BACK_SECONDS,
    )
    assert host.file(f"{LOGS}/worker-low-1.log.1").size <= 1.1 * 2**20
    assert host.file(f"{LOGS}/worker-low-1.log").size < 2**20


# --- what kills, restarts and deploys


@pytest.mark.parametrize("which", ["main process", "command"])
def test_each_process_comes_back_after_kill_9_and_nothing_of_its_former_life_is_left(
    host: Host, model: dict[str, Any], which: str
) -> None:
    before = families(host)
    killed = running(host) if which == "main process" else {name: one["pid"] for name, one in commands(host).items()}
    assert len(killed) >= len(expected(model)) - 1

    host.check_output("kill -9 " + " ".join(map(str, killed.values())))

    wait_until(
        lambda: set(running(host)) == expected(model) and not set(killed.values()) & set(running(host).values()),
        lambda: str(host.run("drumline-supervisorctl status").stdout),
        seconds=BACK_SECONDS,
    )
    after = families(host)
    for name in killed:
        process = name.rpartition(":")[2]
        assert {one["pid"] for one in before[process]} & {one["pid"] for one in after[process]} <= set(
            running(host).values()
        ), name


def test_supervisor_itself_comes_back_after_kill_9_with_all_its_programs(host: Host, model: dict[str, Any]) -> None:
    before = {one["pid"] for members in families(host).values() for one in members}

    host.check_output("systemctl kill --kill-whom=main --signal=KILL drumline-supervisor")

    wait_until(
        lambda: set(running(host)) == expected(model),
        lambda: str(host.run("drumline-supervisorctl status").stdout),
        seconds=BACK_SECONDS,
    )
    assert before & {one["pid"] for members in families(host).values() for one in members} == set()


@pytest.mark.parametrize(
    "command", ["drumline-supervisorctl restart worker-high-1 worker-high-2", "systemctl restart drumline-supervisor"]
)
def test_a_restart_while_tasks_run_loses_none(host: Host, model: dict[str, Any], busy: str, command: str) -> None:
    before = running(host)

    host.check_output(command)

    wait_until(
        lambda: set(running(host)) == expected(model),
        lambda: str(host.run("drumline-supervisorctl status").stdout),
        seconds=BACK_SECONDS,
    )
    assert {"worker-high-1", "worker-high-2"} <= {name for name, pid in running(host).items() if pid != before[name]}
    all_done(host, busy)


def test_a_second_release_takes_over_while_tasks_run_and_requests_come(
    host: Host, site: Any, busy: str, secrets: Path, second: Path
) -> None:
    first, programs = host.check_output("readlink /opt/drumline/current"), set(running(host))
    refused: list[str] = []
    answered = 0
    over = threading.Event()

    def ask() -> None:
        nonlocal answered
        while not over.wait(0.2):
            answer = site.get("/readyz")
            answered += answer.status == 200
            if answer.status != 200:
                refused.append(f"{answer.status} {answer.body}")

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        rolled_out = run_site(secrets.parent, "--tags=app_release,app_services", f"--extra-vars=app_source={second}")
    finally:
        over.set()
        asking.join()

    assert rolled_out.returncode == 0, rolled_out.stdout[-3000:]
    current = host.check_output("readlink /opt/drumline/current")
    assert current != first
    assert set(running(host)) == programs
    assert {one["cwd"] for name, one in commands(host).items() if name != "flower"} == {current}
    all_done(host, busy)
    assert refused == []
    assert answered > 20
