"""What tests do with a host that is up: run a script in its Django, and run the site's playbook over it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
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
    own = {"ANSIBLE_CONFIG": str(ansible / "ansible.cfg"), "ANSIBLE_INVENTORY_IGNORE_REGEX": "^secrets$"}
    return subprocess.run(
        [str(Path(sys.executable).with_name("ansible-playbook")), f"--inventory={inventory}", *options, playbook],
        cwd=ansible,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | own,
    )
