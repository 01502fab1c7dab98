"""Bad input stops site.yml before the first change, and says which variable, which value and what to do."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import SECRETS
from tests.support.certificates import certificate
from tests.support.paths import ANSIBLE
from tests.support.ports import free_port

# Looked at on this machine and never changed: check mode stands behind the preflight.
THIS_MACHINE = {
    "ansible_become": False,
    "ansible_python_interpreter": "{{ ansible_playbook_python }}",
    "preflight_distributions": {"Debian": ["11", "12", "13", "14"]},
}


def site(
    tmp_path: Path,
    groups: dict[str, list[str]] | None = None,
    *options: str,
    playbook: str = "site.yml",
    **variables: Any,
) -> subprocess.CompletedProcess[str]:
    """Run a playbook in check mode against an inventory of this machine, but for a host `away`, which does not answer."""
    groups = groups or {group: ["app1"] for group in ("web", "worker", "beat", "flower", "redis", "postgresql")}
    names = {name for named in groups.values() for name in named}
    reached = {name: {"ansible_connection": "local"} for name in sorted(names - {"away"})}
    away = {"away": {"ansible_host": "127.0.0.1", "ansible_port": free_port()}} if "away" in names else {}
    children = {group: {"hosts": dict.fromkeys(named)} for group, named in groups.items()}
    inventory = tmp_path / "hosts.json"
    inventory.write_text(json.dumps({"all": {"hosts": reached | away, "children": children}}))
    variables = THIS_MACHINE | SECRETS | variables
    return play("--check", f"--inventory={inventory}", *options, playbook, f"--extra-vars={json.dumps(variables)}")


def play(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ansible-playbook with the project's settings."""
    return subprocess.run(
        ["ansible-playbook", *arguments],
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


# Of input that Ansible or the first look at the host refuses, one at a time is told.
CASES: dict[str, tuple[dict[str, Any], str]] = {
    "a missing secret": ({"vault_redis_app_password": ""}, "The secret vault_redis_app_password is missing or empty"),
    "a value of the wrong type": (
        {"app_web": {"processes": "many"}},
        "app_web.processes is many. It must be a whole number of at least 1",
    ),
    "an unsupported distribution": ({"preflight_distributions": {"Debian": ["99"]}}, "Supported are Debian 99"),
}


@pytest.mark.parametrize(("variables", "told"), CASES.values(), ids=CASES.keys())
def test_the_play_stops_before_the_first_change(tmp_path: Path, variables: dict[str, Any], told: str) -> None:
    ran = site(tmp_path, **variables)
    output = ran.stdout + ran.stderr

    assert ran.returncode != 0, f"the play went on:\n{output}"
    assert told in " ".join(output.split()), output
    assert "PLAY [Set up every host]" not in output, "something was touched before the input was refused"


def test_a_run_of_one_host_looks_at_the_others_too(tmp_path: Path) -> None:
    groups = {group: ["app1"] for group in ("web", "beat", "redis", "postgresql")}
    groups["worker"] = ["app1", "app2", "away"]

    ran = site(tmp_path, groups, "--limit=app1", app_queues=model(memory_mb=9_000_000))
    output = " ".join((ran.stdout + ran.stderr).split())

    assert ran.returncode != 0, f"the play went on:\n{output}"
    for host in ("app1", "app2"):
        assert re.search(rf"{host} has [1-9][0-9]* MB of memory, but its processes may use", output), output
    assert "app1 needs the address of away, which was not reached" in output, output
    assert "away has" not in output, output


def test_everything_that_does_not_fit_together_is_told_at_once(tmp_path: Path) -> None:
    own = certificate(tmp_path, days=-1)
    groups = {"worker": ["app1"], "beat": ["app1", "app2"], "redis": ["app1"], "postgresql": ["app1"]}

    ran = site(
        tmp_path,
        groups,
        app_queues=model(drain_timeout=20, memory_mb=9_000_000),
        app_queues_served=["high", "default"],
        app_celery="",
        app_ledger=False,
        app_env={"HOOK": None},
        vault_bank_token=None,
        app_secrets={"BANK_TOKEN": "{{ vault_bank_token }}"},
        tls_certificate=str(own),
        tls_key=str(own),
    )
    output = " ".join((ran.stdout + ran.stderr).split())

    assert ran.returncode != 0, f"the play went on:\n{output}"
    for told in (
        "app_queues.high.time_limit is 20 s and app_queues.high.drain_timeout is 20 s",
        "No host serves the queue low",
        "app_env.HOOK has no value",
        "app_secrets.BANK_TOKEN has no value. Set it in the vault: drumline secrets edit",
        "app_celery is empty and app_ledger is false, so nothing would run tasks",
        "Lower memory_mb or instances in app_queues",
        f"{own} (tls_certificate) expired on",
        "Group beat has 2 hosts (app1, app2), but app_beat.hosts is 1",
    ):
        assert told in output, output
    by_both_hosts = output.count("app_env.HOOK has no value")
    assert output.count("No host serves the queue low") == by_both_hosts / 2, f"told by both hosts:\n{output}"
    assert "PLAY [Set up every host]" not in output, "something was touched before the input was refused"


def test_a_run_with_a_mistyped_inventory_is_no_success(tmp_path: Path) -> None:
    """Ansible would skip every play, since no host matches, and end green."""
    ran = play(f"--inventory={tmp_path / 'hosts.ymk'}", "deploy.yml")

    assert ran.returncode != 0, ran.stdout
    assert "No inventory was parsed" in ran.stderr
    assert "hosts.ymk" in ran.stderr


@pytest.mark.parametrize("playbook", ["site.yml", "verify.yml", "lock.yml"])
def test_a_run_over_no_hosts_is_no_success(tmp_path: Path, playbook: str) -> None:
    """Ansible would skip every play, and end green."""
    inventory = tmp_path / "hosts.json"
    inventory.write_text('{"all": {"hosts": {}}}')

    ran = play(f"--inventory={inventory}", playbook)

    assert ran.returncode != 0, ran.stdout
    assert "Nothing was done: no host took part in this run." in " ".join(ran.stderr.split()), ran.stderr


@pytest.mark.parametrize("playbook", ["deploy.yml", "rollback.yml", "restart.yml", "drain.yml"])
def test_a_run_that_leaves_out_every_host_it_is_for_is_no_success(tmp_path: Path, playbook: str) -> None:
    """Ansible would skip the plays that do what was asked for, and end green."""
    groups = {"web": ["app1"], "worker": ["app1"], "beat": ["app1"], "redis": ["store"], "postgresql": ["store"]}

    ran = site(tmp_path, groups, "--limit=store", playbook=playbook)
    output = " ".join((ran.stdout + ran.stderr).split())

    assert ran.returncode != 0, f"the run ended green:\n{output}"
    assert "Nothing was changed: this is for hosts of the groups web, worker, beat" in output, output
    assert "--limit leaves none of them, but store. Leave --limit out" in output, output


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            ["--tags=ngnix"],
            "No task has the tag ngnix. Did you mean nginx? The tags are acme, app_release, app_services,",
        ),
        (["--tags=tls", "--skip-tags=firewal"], "No task has the tag firewal. Did you mean firewall?"),
        (["--extra-vars=app_rfe=v2"], "No playbook reads app_rfe. Did you mean app_ref?"),
        (['--extra-vars={"app_evn": {}, "my_own": 1}'], "No playbook reads app_evn. Did you mean app_env?"),
    ],
    ids=["tag", "skipped tag", "variable", "variable in JSON"],
)
def test_what_was_asked_for_with_a_slip_is_refused(tmp_path: Path, options: list[str], told: str) -> None:
    """Ansible would do something else, and end green."""
    ran = site(tmp_path, None, *options)
    output = " ".join(ran.stderr.split())

    assert ran.returncode != 0, ran.stdout
    assert f"Nothing was done. {told}" in output, output
    assert "my_own" not in output, output
    assert "PLAY [" not in ran.stdout, "something ran before the input was refused"


@pytest.mark.parametrize(
    ("playbook", "slip", "meant"),
    [
        ("rollback.yml", "rollback_too=1", "rollback_to"),
        ("drain.yml", "drain_anyways=true", "drain_anyway"),
        ("lock.yml", "lock_opened=true", "lock_open"),
        ("reboot.yml", "reboot_upgrades=true", "reboot_upgrade"),
    ],
)
def test_options_of_one_playbook_are_known(tmp_path: Path, playbook: str, slip: str, meant: str) -> None:
    ran = site(tmp_path, None, "--extra-vars", slip, playbook=playbook)

    assert ran.returncode != 0, ran.stdout
    assert f"Did you mean {meant}?" in ran.stderr, ran.stderr


@pytest.mark.parametrize(
    ("playbook", "slip"),
    [("lock.yml", "lock_open=ture"), ("reboot.yml", "reboot_always=enabled"), ("site.yml", "app_media_private=nope")],
)
def test_a_switch_is_true_or_false(tmp_path: Path, playbook: str, slip: str) -> None:
    """Ansible would take any other word for false: lock.yml would close the fleet."""
    ran = site(tmp_path, None, "--extra-vars", slip, playbook=playbook, lock_reason="over")

    assert ran.returncode != 0, ran.stdout
    assert f"Nothing was done. {slip.replace('=', ' is ')}. It must be true or false." in " ".join(ran.stderr.split())


def test_special_tags_and_variables_of_the_team_are_taken(tmp_path: Path) -> None:
    options = ["--tags=untagged", "--skip-tags=molecule-notest,notest", "--extra-vars=branch=main"]
    ran = site(tmp_path, None, *options, playbook="lock.yml", lock_reason="noon")

    assert ran.returncode == 0, ran.stdout + ran.stderr
