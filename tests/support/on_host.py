"""What tests do with a host that is up: run a script in its Django, and run the site's playbook over it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.paths import ANSIBLE, TESTHOST

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pytest
    from testinfra.host import Host


def testhost(*arguments: str) -> Any:
    """What the test host tool says, None where the host is no test host of this machine."""
    command = [sys.executable, str(TESTHOST), *arguments, "--json"]
    result = subprocess.run(command, check=False, capture_output=True, text=True)
    return json.loads(result.stdout) if result.returncode == 0 else None


def inventory_of(config: pytest.Config) -> Path:
    """The inventory of the host under test: Molecule's, or that of `make up`."""
    secrets = config.getoption("--secrets", default=ANSIBLE / "inventories/local/secrets")
    return Path(secrets).resolve().parent


def groups_of(inventory: Path) -> dict[str, list[str]]:
    """The names of an inventory's hosts, by group."""
    line = _line(inventory, ["--list"], ANSIBLE, program="ansible-inventory")
    listed = subprocess.run(**line, capture_output=True, check=False)
    assert listed.returncode == 0, listed.stderr
    return {group: entry.get("hosts", []) for group, entry in json.loads(listed.stdout).items()}


def properties(host: Host, units: Iterable[str], *names: str) -> dict[str, dict[str, str]]:
    """What systemd shows of units, by unit."""
    quoted = " ".join(map("'{}'".format, units))
    blocks = host.check_output(f"systemctl show --property=Id,{','.join(names)} {quoted}").split("\n\n")
    shown = [dict(line.split("=", 1) for line in block.splitlines()) for block in blocks]
    return {unit["Id"]: unit for unit in shown}


def ratings(host: Host, services: Iterable[str]) -> dict[str, float]:
    """How exposed systemd calls services, from 0 to 10."""
    printed = host.run("systemd-analyze security --no-pager " + " ".join(map("'{}'".format, services))).stdout
    found = dict(re.findall(r"exposure level for (\S+): (\d+\.\d+)", printed))
    return {name: float(found.get(name, 10.0)) for name in services}


def state(host: Host) -> dict[str, Any]:
    """What a refused release must leave as it was: files, and what runs beside stand-ins."""
    return {
        "current": host.check_output("readlink /opt/drumline/current"),
        "releases": host.check_output("ls /opt/drumline/releases").split(),
        "artefacts": host.check_output("ls /opt/drumline/shared/artefacts").split(),
        "environment": host.check_output(
            "find /etc/drumline /opt/drumline/releases/*/*.* /etc/systemd/system/drumline* -type f -exec sha256sum {} +  | sort -k2"
        ),
        "active": sorted(
            line.split()[0]
            for line in host.check_output(
                "systemctl list-units --plain --no-legend --state=active 'drumline-*.service' 'drumline-*.socket'"
            ).splitlines()
        ),
    }


def last_line(host: Host, script: str, standard_input: str = "") -> str:
    """What a script prints last in the shell of the host's application."""
    ran = host.run(f"printf %s '{standard_input}' | drumline-manage shell --verbosity=0 --command='{script}'")
    assert ran.rc == 0, ran.stderr
    return str(ran.stdout.strip().splitlines()[-1])


def run_site(
    inventory: Path, *options: str, ansible: Path = ANSIBLE, playbook: str = "site.yml"
) -> subprocess.CompletedProcess[str]:
    """Run a playbook of this checkout, or of another one's folder of playbooks."""
    line = _line(inventory, options, ansible, playbook)
    return subprocess.run(**line, capture_output=True, check=False)


class Deploy:
    """A deploy that goes on, in a session of its own."""

    def __init__(self, inventory: Path, *options: str) -> None:
        # Each task is named as it begins.
        line = _line(inventory, options, ANSIBLE, "deploy.yml", ANSIBLE_DISPLAY_SKIPPED_HOSTS="true")
        self._run = subprocess.Popen(**line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
        self._output = ""

    def reach(self, task: str, seconds: float = 0) -> None:
        """Return when it has been at a task for so many seconds."""
        assert self._run.stdout
        for line in self._run.stdout:
            self._output += line
            if line.startswith("TASK [") and task in line:
                break
        else:
            raise AssertionError(f"the deploy ended without the task {task!r}:\n{self._output[-4000:]}")
        time.sleep(seconds)
        assert self._run.poll() is None, f"the deploy had ended already:\n{self._output[-4000:]}"

    def kill(self) -> None:
        """End the controller with all its processes at once, also those in sessions of their own."""
        parents = {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                parents[int(stat.parent.name)] = int(stat.read_text().rsplit(")", 1)[1].split()[1])
        doomed = [self._run.pid]
        # It grows while it is read.
        for one in doomed:
            doomed += [pid for pid, parent in parents.items() if parent == one]
        for pid in doomed:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._run.communicate()

    def end(self) -> subprocess.CompletedProcess[str]:
        """Wait for its end."""
        rest, _ = self._run.communicate()
        return subprocess.CompletedProcess(self._run.args, self._run.returncode, self._output + rest, "")


def _line(
    inventory: Path,
    options: Iterable[str],
    ansible: Path,
    *playbooks: str,
    program: str = "ansible-playbook",
    **environment: str,
) -> dict[str, Any]:
    own = {
        "ANSIBLE_CONFIG": str(ansible / "ansible.cfg"),
        "ANSIBLE_INVENTORY_IGNORE_REGEX": "^secrets$",
        # Molecule forces it, and what is printed is read here.
        "ANSIBLE_FORCE_COLOR": "false",
    }
    # The controller is another machine where it matters: here it takes what the host under test leaves of the processors.
    command = ["nice", "-n", "19", str(Path(sys.executable).with_name(program))]
    return {
        "args": [*command, f"--inventory={inventory}", *options, *playbooks],
        "cwd": ansible,
        "env": os.environ | own | environment,
        "text": True,
    }
