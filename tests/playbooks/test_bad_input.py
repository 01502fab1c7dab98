"""Bad input stops site.yml before the first change, and says which variable, which value and what to do."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import SECRETS
from tests.support.certificates import certificate
from tests.support.paths import ANSIBLE

# Looked at on this machine and never changed: check mode stands behind the preflight.
THIS_MACHINE = {
    "ansible_connection": "local",
    "ansible_become": False,
    "ansible_python_interpreter": "{{ ansible_playbook_python }}",
    "preflight_distributions": {"Debian": ["11", "12", "13", "14"]},
}


def site(
    tmp_path: Path, groups: dict[str, list[str]] | None = None, **variables: Any
) -> subprocess.CompletedProcess[str]:
    """Run site.yml in check mode against an inventory of this machine."""
    groups = groups or {group: ["app1"] for group in ("web", "worker", "beat", "flower", "redis", "postgresql")}
    hosts = {"all": {"children": {group: {"hosts": dict.fromkeys(names)} for group, names in groups.items()}}}
    inventory = tmp_path / "hosts.json"
    inventory.write_text(json.dumps(hosts))
    return subprocess.run(
        [
            "ansible-playbook",
            "--check",
            f"--inventory={inventory}",
            "site.yml",
            f"--extra-vars={json.dumps(THIS_MACHINE | SECRETS | variables)}",
        ],
        cwd=ANSIBLE,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=os.environ | {"ANSIBLE_CONFIG": str(ANSIBLE / "ansible.cfg")},
    )


def model(**changes: Any) -> dict[str, Any]:
    numbers = {
        "instances": 1,
        "concurrency": 1,
        "prefetch": 1,
        "soft_time_limit": 10,
        "time_limit": 20,
        "drain_timeout": 30,
        "memory_mb": 10,
        "cpu_weight": 100,
    }
    return {"high": numbers | changes, "default": numbers, "low": numbers}


CASES: dict[str, tuple[dict[str, Any], str]] = {
    "a queue whose limits break the chain": (
        {"app_queues": model(drain_timeout=20)},
        "app_queues.high.time_limit is 20 s and app_queues.high.drain_timeout is 20 s",
    ),
    "a routed queue that no host serves": (
        {"app_queues": model(), "app_queues_served": ["high", "default"]},
        "No host serves the queue low",
    ),
    "worker memory above the host's RAM": (
        {"app_queues": model(memory_mb=9_000_000)},
        "Lower memory_mb or instances in app_queues",
    ),
    "a missing secret": ({"vault_redis_app_password": ""}, "The secret vault_redis_app_password is missing or empty"),
    "a value of the wrong type": ({"app_web": {"processes": "many"}}, "app_services_web"),
    "an unsupported distribution": ({"preflight_distributions": {"Debian": ["99"]}}, "Supported are Debian 99"),
}


@pytest.mark.parametrize(("variables", "told"), CASES.values(), ids=CASES.keys())
def test_the_play_stops_before_the_first_change(tmp_path: Path, variables: dict[str, Any], told: str) -> None:
    ran = site(tmp_path, **variables)
    output = ran.stdout + ran.stderr

    assert ran.returncode != 0, f"the play went on:\n{output}"
    assert told in " ".join(output.split()), output
    assert "PLAY [Set up every host]" not in output, "something was touched before the input was refused"


def test_a_certificate_of_your_own_that_has_ended_is_refused(tmp_path: Path) -> None:
    path = certificate(tmp_path, days=-1)

    ran = site(tmp_path, tls_certificate=str(path), tls_key=str(path))

    assert ran.returncode != 0
    assert f"{path} (tls_certificate) expired on" in " ".join(ran.stdout.split()), ran.stdout
    assert "PLAY [Set up every host]" not in ran.stdout


def test_two_beat_hosts_are_refused_unless_asked_for(tmp_path: Path) -> None:
    groups = {"worker": ["app1"], "beat": ["app1", "app2"], "redis": ["app1"], "postgresql": ["app1"]}

    ran = site(tmp_path, groups)

    assert ran.returncode != 0
    assert "Group beat has 2 hosts (app1, app2), but app_beat.hosts is 1" in " ".join(ran.stdout.split()), ran.stdout
    assert "PLAY [Set up every host]" not in ran.stdout
