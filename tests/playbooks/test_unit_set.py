"""A unit is restarted when it runs something older than what is on the disk, and otherwise left alone."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.paths import ANSIBLE, PROJECT

_spec = importlib.util.spec_from_file_location("unit_set", ANSIBLE / "plugins" / "modules" / "unit_set.py")
assert _spec
assert _spec.loader
unit_set = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(unit_set)

HOUR = 3600


def touched(path: Path, seconds_ago: float) -> None:
    moment = time.time() - seconds_ago
    os.utime(path, (moment, moment), follow_symlinks=False)


@pytest.fixture
def unit(tmp_path: Path) -> dict[str, str]:
    """A service that was started half an hour ago from files that are an hour old."""
    for name in ("web.service", "10-queue.conf", "app.env"):
        (tmp_path / name).write_text("")
        touched(tmp_path / name, HOUR)
    (tmp_path / "release").mkdir()
    (tmp_path / "current").symlink_to("release")
    touched(tmp_path / "current", HOUR)
    started = time.clock_gettime(time.CLOCK_MONOTONIC) - HOUR / 2
    return {
        "ActiveState": "active",
        "FragmentPath": str(tmp_path / "web.service"),
        "DropInPaths": str(tmp_path / "10-queue.conf"),
        "EnvironmentFiles": f"{tmp_path / 'app.env'} (ignore_errors=no)",
        "WorkingDirectory": str(tmp_path / "current"),
        "ExecMainStartTimestampMonotonic": str(int(started * 1e6)),
        "ActiveEnterTimestampMonotonic": str(int(started * 1e6)),
    }


def test_a_unit_that_runs_what_is_on_the_disk_is_left_alone(unit: dict[str, str]) -> None:
    assert unit_set._stale(unit) is None


@pytest.mark.parametrize("name", ["web.service", "10-queue.conf", "app.env", "current"])
def test_a_unit_whose_file_or_release_is_newer_is_restarted_and_the_reason_names_it(
    tmp_path: Path, unit: dict[str, str], name: str
) -> None:
    touched(tmp_path / name, 1)

    assert unit_set._stale(unit) == f"{tmp_path / name} is newer"


def test_a_working_directory_that_is_no_link_changes_without_a_restart(tmp_path: Path, unit: dict[str, str]) -> None:
    unit["WorkingDirectory"] = str(tmp_path / "release")
    touched(tmp_path / "release", 1)

    assert unit_set._stale(unit) is None


@pytest.mark.parametrize("state", ["inactive", "failed", "activating"])
def test_a_unit_that_does_not_run_is_started(unit: dict[str, str], state: str) -> None:
    assert unit_set._stale(unit | {"ActiveState": state}) == state


@pytest.fixture
def open_socket(tmp_path: Path, unit: dict[str, str]) -> dict[str, str]:
    """A socket that is open as its unit says, and whose unit has changed since."""
    path = tmp_path / "web.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
    path.chmod(0o600)
    touched(tmp_path / "web.service", 1)
    return unit | {"Listen": f"{path} (Stream)", "SocketMode": "0600", "SocketUser": path.owner()}


def test_an_open_socket_is_not_closed_for_what_takes_effect_without(open_socket: dict[str, str]) -> None:
    assert unit_set._stale(open_socket) is None


@pytest.mark.parametrize(
    "said", [{"Listen": "/run/elsewhere.sock (Stream)"}, {"SocketMode": "0660"}, {"SocketUser": "nobody"}], ids=str
)
def test_a_socket_that_is_not_where_or_whose_its_unit_says_is_restarted(
    open_socket: dict[str, str], said: dict[str, str]
) -> None:
    unit = open_socket | said

    assert unit_set._stale(unit) == f"{unit['Listen']} is not as its unit says"


# Plays systemd by a few files: a unit is a file of its properties, and every call is written down.
SYSTEMCTL = """#!{python}
import fnmatch, pathlib, sys, time
here = pathlib.Path(__file__).parent
verb, *arguments = [a for a in sys.argv[1:] if a != "--no-ask-password"]
options = [a for a in arguments if a.startswith("--")]
names = [a for a in arguments if not a.startswith("--")]
units = {{p.name: dict(line.split("=", 1) for line in p.read_text().splitlines()) for p in (here / "units").iterdir()}}
with open(here / "calls", "a") as calls:
    calls.write(" ".join([verb, *names]) + "\\n")
if verb == "show":
    for name, unit in units.items():
        shown = name in names or ("*" in names and (unit["ActiveState"] == "active" or "--all" in options))
        if shown:
            print("\\n".join(f"{{key}}={{value}}" for key, value in unit.items()) + "\\n")
elif verb == "list-units":
    states = next(o for o in options if o.startswith("--state=")).removeprefix("--state=").split(",")
    for name, unit in units.items():
        if unit["ActiveState"] in states and any(fnmatch.fnmatch(name, pattern) for pattern in names):
            print(name, "loaded", unit["ActiveState"])
elif verb in ("restart", "start"):
    for name in names:
        slow = [state for key, state in (("Drains", "deactivating"), ("Slow", "activating")) if key in units[name]]
        units[name] |= {{"ActiveState": slow[0], "Job": "7"}} if slow and verb == "restart" else {{
            "ActiveState": "active", "Job": "0", "ActiveEnterTimestampMonotonic": str(time.monotonic_ns() // 1000)
        }}
        (here / "units" / name).write_text("\\n".join(f"{{k}}={{v}}" for k, v in units[name].items()))
    # One with a short task has ended it by now, and starts.
    for name, unit in units.items():
        if verb == "start" and unit["ActiveState"] == "deactivating" and "Short" in unit:
            unit |= {{"ActiveState": "activating", "Job": "7"}}
            (here / "units" / name).write_text("\\n".join(f"{{k}}={{v}}" for k, v in unit.items()))
    # What `timeout` answers when it had to end the call.
    sys.exit(124 if any(units[name]["ActiveState"] != "active" for name in names) else 0)
elif verb in ("is-enabled", "is-active"):
    print({{"is-enabled": "enabled", "is-active": "active"}}[verb])
"""


class Systemd:
    """A host of which the module sees what a stub of systemctl says."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "units").mkdir()
        (folder / "fragment").touch()
        moment = time.time() - HOUR
        os.utime(folder / "fragment", (moment, moment))
        self.changed = str(folder / "changed")
        Path(self.changed).touch()
        for name, text in {
            "systemctl": SYSTEMCTL.format(python=sys.executable),
            "journalctl": "#!/bin/sh\necho its end",
        }.items():
            (folder / name).write_text(text)
            (folder / name).chmod(stat.S_IRWXU)

    def unit(self, name: str, **properties: str) -> None:
        started = str(int((time.clock_gettime(time.CLOCK_MONOTONIC) - HOUR / 2) * 1e6))
        known = {
            "Id": name,
            "ActiveState": "active",
            "MainPID": "1",
            "NRestarts": "0",
            "FragmentPath": str(self.folder / "fragment"),
            "DropInPaths": "",
            "NeedDaemonReload": "no",
            "ActiveEnterTimestampMonotonic": started,
            "ExecMainStartTimestampMonotonic": started,
        }
        text = "\n".join(f"{key}={value}" for key, value in (known | properties).items())
        (self.folder / "units" / name).write_text(text)

    def bring(self, **parameters: Any) -> dict[str, Any]:
        own = {"held_back": str(self.folder / "held-back"), "_ansible_tmpdir": str(self.folder)}
        ran = subprocess.run(
            [sys.executable, str(ANSIBLE / "plugins/modules/unit_set.py")],
            input=json.dumps({"ANSIBLE_MODULE_ARGS": parameters | own}),
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"PATH": f"{self.folder}:{os.environ['PATH']}"},
        )
        answer: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1]) if ran.stdout else {"msg": ran.stderr}
        return answer

    def calls(self, *verbs: str) -> list[str]:
        calls = (self.folder / "calls").read_text().splitlines()
        return [call for call in calls if call.split()[0] in verbs]


@pytest.fixture
def systemd(tmp_path: Path) -> Systemd:
    return Systemd(tmp_path)


def test_a_stopped_unit_whose_definition_has_changed_starts_with_the_new_one(systemd: Systemd) -> None:
    systemd.unit("drumline-beat.service", ActiveState="inactive", NeedDaemonReload="yes")

    systemd.bring(waves=[["drumline-beat.service"]])

    assert systemd.calls("daemon-reload", "restart") == ["daemon-reload", "restart drumline-beat.service"]


def test_what_is_in_no_wave_is_stopped_and_disabled_also_when_it_fails_to_start(systemd: Systemd) -> None:
    systemd.unit("drumline-worker@low-1.service")
    systemd.unit("drumline-worker@low-2.service")
    systemd.unit("drumline-beat.service", ActiveState="failed")

    answer = systemd.bring(
        waves=[["drumline-worker@low-1.service"]], owned=["drumline-worker@*.service", "drumline-beat.service"]
    )

    leftover = "drumline-beat.service drumline-worker@low-2.service"
    assert answer["stopped"] == leftover.split()
    assert systemd.calls("stop", "disable") == [f"stop {leftover}", f"disable {leftover}"]


def test_a_target_that_this_host_still_has_is_no_leftover(systemd: Systemd) -> None:
    systemd.unit("drumline.target")

    answer = systemd.bring(waves=[], owned=["drumline.target"], enabled=["drumline.target"])

    assert answer["stopped"] == []


def test_a_unit_that_restarts_by_itself_while_it_settles_is_a_failure_with_its_journal(systemd: Systemd) -> None:
    systemd.unit("drumline-beat.service", ActiveState="inactive", NRestarts="1")

    answer = systemd.bring(waves=[["drumline-beat.service"]], settle=5)

    assert answer["units"] == ["drumline-beat.service"]
    assert "drumline-beat.service ended soon after its start. The last lines of its journal:\nits end" in answer["msg"]


def test_a_web_that_loses_its_processes_while_it_settles_is_a_failure(systemd: Systemd) -> None:
    # Its child ends once the module has looked at it: the fourth look is the first after the restart.
    looks = f"while [ $(grep -c ^show {systemd.folder}/calls) -lt 5 ]; do sleep 0.05; done"
    (systemd.folder / "calls").touch()
    command = (
        f"import subprocess; c = subprocess.Popen(['sh', '-c', {looks!r}]); print('up', flush=True); c.wait(); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as gunicorn:
        assert gunicorn.stdout
        assert gunicorn.stdout.readline() == "up\n"
        systemd.unit("drumline-web.service", ActiveState="inactive", MainPID=str(gunicorn.pid))

        answer = systemd.bring(waves=[["drumline-web.service"]], settle=20, steady=["drumline-web.service"])
        gunicorn.kill()

    assert "drumline-web.service lost processes soon after its start" in answer["msg"]


LOW = {f"drumline-worker@low-{number}.service": "drumline-worker@low-0.service" for number in (1, 2)}
WAVES = [[name] for name in LOW]


def test_an_instance_that_drains_for_long_is_left_to_it_while_its_stand_in_consumes(systemd: Systemd) -> None:
    systemd.unit("drumline-worker@low-0.service", ActiveState="inactive")
    for name in LOW:
        systemd.unit(name, Drains="yes", FragmentPath=systemd.changed)

    answer = systemd.bring(waves=WAVES, owned=["drumline-worker@*.service"], stand_ins=LOW, patience=1)

    assert answer["draining"] == list(LOW), answer
    assert answer["restarted"] == ["drumline-worker@low-0.service"]
    assert answer["stopped"] == []
    assert systemd.calls("restart", "start", "stop") == [
        "restart drumline-worker@low-1.service",
        "start drumline-worker@low-0.service",
        "restart drumline-worker@low-2.service",
    ]


def test_an_instance_that_drains_while_others_of_its_wave_still_start_is_left_to_it_too(systemd: Systemd) -> None:
    high, low = "drumline-worker@high-1.service", "drumline-worker@low-1.service"
    systemd.unit("drumline-worker@low-0.service", ActiveState="inactive")
    systemd.unit("drumline-worker@low-2.service")
    systemd.unit(high, Slow="yes", FragmentPath=systemd.changed)
    systemd.unit(low, Drains="yes", FragmentPath=systemd.changed)

    answer = systemd.bring(waves=[[high, low]], stand_ins=LOW, patience=1)

    assert answer.get("draining") == [low], answer
    assert sorted(answer["restarted"]) == [high, "drumline-worker@low-0.service"]


def test_an_instance_that_has_drained_while_others_of_its_wave_start_is_waited_for(systemd: Systemd) -> None:
    high, low = "drumline-worker@high-1.service", "drumline-worker@low-1.service"
    systemd.unit("drumline-worker@low-0.service", ActiveState="inactive")
    systemd.unit("drumline-worker@low-2.service")
    systemd.unit(high, Slow="yes", FragmentPath=systemd.changed)
    systemd.unit(low, Drains="yes", Short="yes", FragmentPath=systemd.changed)

    answer = systemd.bring(waves=[[high, low]], stand_ins=LOW, patience=1)

    assert answer.get("draining") == [], answer
    assert sorted(answer["restarted"]) == [high, low]


def test_an_instance_that_drains_already_is_not_waited_for_again(systemd: Systemd) -> None:
    systemd.unit("drumline-worker@low-0.service")
    systemd.unit("drumline-worker@low-1.service", ActiveState="deactivating", Job="7")
    systemd.unit("drumline-worker@low-2.service")
    asked = ["drumline-worker@low-1.service"]

    answer = systemd.bring(waves=WAVES, owned=["drumline-worker@*.service"], restart=asked, stand_ins=LOW, patience=1)

    assert answer["draining"] == ["drumline-worker@low-1.service"], answer
    assert systemd.calls("restart", "start", "stop") == []


def test_the_last_that_consumes_is_left_as_it_is_while_all_others_drain(systemd: Systemd) -> None:
    systemd.unit("drumline-worker@low-0.service", ActiveState="deactivating")
    systemd.unit("drumline-worker@low-1.service", ActiveState="deactivating", Job="7")
    systemd.unit("drumline-worker@low-2.service", FragmentPath=systemd.changed)

    answer = systemd.bring(waves=WAVES, owned=["drumline-worker@*.service"], stand_ins=LOW, patience=1)

    assert answer["draining"] == list(LOW), answer
    assert systemd.calls("restart", "start", "stop") == []
    assert [path.name for path in (systemd.folder / "held-back").iterdir()] == ["drumline-worker@low-2.service"]


def test_what_is_held_back_is_where_an_instance_looks_for_it_as_it_comes_up() -> None:
    folder = yaml.safe_load(unit_set.DOCUMENTATION)["options"]["held_back"]["default"]

    assert f'in "{folder}/$1"' in (PROJECT / "systemd/drumline-relieve").read_text()


def test_the_only_instance_of_a_queue_has_its_stand_in_before_it_restarts(systemd: Systemd) -> None:
    only, stand_in = "drumline-worker@low-1.service", "drumline-worker@low-0.service"
    systemd.unit(stand_in, ActiveState="inactive")
    systemd.unit(only, FragmentPath=systemd.changed)

    answer = systemd.bring(waves=[[only]], owned=["drumline-worker@*.service"], stand_ins={only: stand_in}, patience=1)

    assert answer["draining"] == [], answer
    assert systemd.calls("restart", "start") == [f"start {stand_in}", f"restart {only}"]


def test_a_stand_in_that_is_up_from_an_earlier_deploy_restarts_too_where_another_instance_consumes(
    systemd: Systemd,
) -> None:
    systemd.unit("drumline-worker@low-0.service", FragmentPath=systemd.changed)
    systemd.unit("drumline-worker@low-1.service", ActiveState="deactivating", Job="7")
    systemd.unit("drumline-worker@low-2.service")

    systemd.bring(waves=WAVES, owned=["drumline-worker@*.service"], stand_ins=LOW, patience=1)

    assert systemd.calls("restart", "start", "stop") == ["restart drumline-worker@low-0.service"]


def test_a_stand_in_that_no_instance_needs_is_stopped_and_not_waited_for(systemd: Systemd) -> None:
    for name in ("drumline-worker@low-0.service", *LOW):
        systemd.unit(name)

    answer = systemd.bring(waves=WAVES, owned=["drumline-worker@*.service"], stand_ins=LOW, patience=1)

    assert answer["draining"] == [], answer
    assert systemd.calls("stop") == ["stop drumline-worker@low-0.service"]


def test_what_is_left_alone_needs_no_time_to_settle(systemd: Systemd) -> None:
    systemd.unit("drumline-beat.service", NRestarts="3")

    assert systemd.bring(waves=[["drumline-beat.service"]], settle=600)["changed"] is False


def test_a_host_drains_what_it_no_longer_runs_before_it_loses_the_files_that_the_drain_reads() -> None:
    tasks = yaml.safe_load((ANSIBLE / "roles/app_services/tasks/systemd.yml").read_text())
    stops = next(number for number, task in enumerate(tasks) if task.get("ansible.builtin.import_tasks") == "units.yml")
    purges = [number for number, task in enumerate(tasks) if (task.get("file_set") or {}).get("purge")]

    assert purges
    assert min(purges) > stops, "a unit would be stopped after its environment file is gone"


def test_a_unit_that_ends_before_the_next_wave_keeps_what_runs_from_being_given_up(systemd: Systemd) -> None:
    for number in (1, 2):
        # By itself it has started again since.
        systemd.unit(f"drumline-web@{number}.service", ActiveState="inactive", NRestarts="1")

    answer = systemd.bring(waves=[["drumline-web@1.service"], ["drumline-web@2.service"]])

    assert answer["units"] == ["drumline-web@1.service"]
    assert systemd.calls("restart") == ["restart drumline-web@1.service"]


def test_what_an_earlier_call_restarted_is_looked_at_once_more(systemd: Systemd) -> None:
    for name in LOW:
        systemd.unit(name, ActiveState="inactive")
    restarted = systemd.bring(waves=WAVES)["processes"]
    assert systemd.bring(waves=[], restarted=restarted)["changed"] is False

    systemd.unit("drumline-worker@low-2.service", MainPID="2")
    answer = systemd.bring(waves=[], restarted=restarted)

    assert answer["units"] == ["drumline-worker@low-2.service"]
    assert "drumline-worker@low-2.service ended soon after its start" in answer["msg"]


@pytest.mark.parametrize(("watch", "seen"), [(0, {}), (HOUR, {"first": "ended soon after its start"})])
def test_the_first_that_was_restarted_is_watched_for_longer_than_the_last(
    monkeypatch: pytest.MonkeyPatch, watch: int, seen: dict[str, str]
) -> None:
    monkeypatch.setattr(unit_set, "_LOOK", 0)
    now, looks = time.monotonic(), iter(["1", "1", "1", "2"])

    class Units:
        def show(self, names: list[str]) -> dict[str, dict[str, str]]:
            """The first unit has been up for 20 s, the last for 10; the first ends at the third look."""
            up = dict(zip(names, (str(int((now - seconds) * 1e6)) for seconds in (20, 10)), strict=True))
            pids = {"first": next(looks), "last": "1"}
            return {
                name: {"ActiveState": "active", "MainPID": pids[name], "ActiveEnterTimestampMonotonic": at}
                for name, at in up.items()
            }

    before = {"first": ("1", set()), "last": ("1", set())}
    assert unit_set._settle(Units(), before, [], 10, watch) == seen


def test_what_happens_between_two_calls_counts_as_time_to_settle(systemd: Systemd) -> None:
    systemd.unit("drumline-beat.service", ActiveState="inactive")
    restarted = systemd.bring(waves=[["drumline-beat.service"]])["processes"]
    # Half an hour of it has gone by.
    systemd.unit("drumline-beat.service")
    (systemd.folder / "calls").unlink()

    assert systemd.bring(waves=[], restarted=restarted, settle=1200)["changed"] is False

    assert systemd.calls("list-units", "restart") == []
