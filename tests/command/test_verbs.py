"""What the verbs show, print and keep."""

from __future__ import annotations

import json
import shlex
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from drumline_cli import bundle, doctor, remote, vault
from drumline_cli.cli import cli
from drumline_cli.variables import Host
from tests.command.conftest import Drumline
from tests.support.paths import ANSIBLE
from tests.support.rendering import Playbooks


def shown(line: str) -> tuple[dict[str, str], list[str]]:
    """The environment and the words of a line that a person pastes into a shell."""
    words = shlex.split(line)
    environment = dict(word.split("=", 1) for word in words if word.startswith("ANSIBLE_"))
    return environment, [word for word in words if not word.startswith("ANSIBLE_")]


@pytest.mark.parametrize(
    ("arguments", "playbook", "variables"),
    [
        (["setup"], "site.yml", None),
        (["deploy"], "deploy.yml", None),
        (["deploy", "main"], "deploy.yml", {"app_ref": "main"}),
        (
            ["rollback", "3f2a"],
            "rollback.yml",
            {"rollback_to": "3f2a", "rollback_migrations": "refuse", "rollback_any_task": False},
        ),
        (["restart"], "restart.yml", None),
        (["drain", "--host", "127.0.0.1"], "drain.yml", None),
        (["drain", "--host", "127.0.0.1", "--resume"], "restart.yml", None),
        (["reboot", "--upgrade"], "reboot.yml", {"reboot_upgrade": True, "reboot_always": False}),
        (["lock", "--reason", "a move"], "lock.yml", {"lock_reason": "a move"}),
        (["verify"], "verify.yml", None),
        (["doctor"], "site.yml", None),
    ],
)
def test_a_verb_shows_the_line_that_it_would_run(
    deployable: Path, drumline: Drumline, arguments: list[str], playbook: str, variables: dict[str, object] | None
):
    answer = drumline(*arguments, "--show")
    assert answer.code == 0, answer.err
    environment, words = shown(answer.out)
    assert environment["ANSIBLE_CONFIG"] == str(ANSIBLE / "ansible.cfg")
    assert words[0].endswith("ansible-playbook")
    assert str(ANSIBLE / playbook) in words
    assert (ANSIBLE / playbook).is_file()
    assert words[words.index("--inventory") + 1] == str(deployable / "deploy/production.yml")
    given = json.loads(words[words.index("--extra-vars") + 1]) if "--extra-vars" in words else None
    assert given == variables


@pytest.mark.usefixtures("deployable")
def test_check_mode_and_further_arguments_reach_ansible(drumline: Drumline):
    _, words = shown(drumline("setup", "--check", "--args", "--limit 'web:&worker' -v", "--show").out)
    assert words[-5:] == ["--check", "--diff", "--limit", "web:&worker", "-v"]


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["manage", "migrate", "--check"], "sudo -n -- drumline-manage migrate --check"),
        (["queues", "--json"], "sudo -n -- drumline-manage queues --json"),
        (["dead-letters"], "sudo -n -- drumline-manage dead_letters list"),
        (["dead-letters", "discard", "x", "--reason", "two words"], "sudo -n -- drumline-manage dead_letters discard x --reason 'two words'"),
        (["exec", "uptime", "-p"], "uptime -p"),
        (["exec", "--root", "id"], "sudo -n -- id"),
        (["logs", "worker@reports-1", "-n", "5"], "--unit=drumline-worker@reports-1*"),
        (["logs", "HIGH-priority"], "'--unit=drumline-worker@high_priority-*'"),
        (["logs", "nginx", "-f"], "--unit=nginx.service --follow"),
        (["drain", "late"], "systemctl stop 'drumline-worker@late-*'"),
        (["drain", "late", "--resume"], "systemctl start drumline-worker@late-1 drumline-worker@late-2"),
        (["lock"], "cat /run/lock/drumline-deploy.json"),
        (["lock"], "cat /opt/drumline/shared/locked.json"),
        (["lock", "--release"], "sudo -n -- sh -c 'rm --force /run/lock/drumline-deploy.json"),
        (["history"], "/opt/drumline/shared/deploys.jsonl"),
        (["history"], "sudo -n -- sh -c"),
        (["status"], "systemctl list-units"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("deployable")
def test_a_command_on_hosts_is_shown_with_the_quotes_that_it_needs(
    drumline: Drumline, arguments: list[str], command: str
):
    verb, *rest = arguments
    answer = drumline(verb, "--show", *rest)
    assert answer.code == 0, answer.err
    words = shlex.split(answer.out.strip())
    assert words[0] == "ssh"
    assert "admin@127.0.0.1" in words
    assert command in words[-1]


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["drain", "late"], "sudo -n -- drumline-supervisorctl stop worker-late-1 worker-late-2"),
        (["drain", "late", "--resume"], "sudo -n -- drumline-supervisorctl start worker-late-1 worker-late-2"),
        (["logs", "late", "-n", "5"], "sudo -n -- sh -c 'tail --quiet --lines=5 /var/log/drumline/worker-late-*.log'"),
        (["logs", "web", "-f"], "--follow=name --retry /var/log/drumline/web*.log"),
        (["logs", "--grep", "9f0c"], "/var/log/drumline/*.log | grep --line-buffered --perl-regexp -e 9f0c"),
        (["logs", "nginx"], "--unit=nginx.service"),
    ],
)
def test_a_host_under_supervisor_is_asked_for_its_programs_and_files(
    drumline: Drumline, deployable: Path, arguments: list[str], command: str
):
    (deployable / "deploy/group_vars/production/manager.yml").write_text("app_process_manager: supervisor\n")
    verb, *rest = arguments

    answer = drumline(verb, "--show", *rest)

    assert answer.code == 0, answer.err
    assert command in shlex.split(answer.out.strip())[-1]


def test_a_host_that_does_not_serve_a_queue_is_not_asked_to_start_its_workers(drumline: Drumline, deployable: Path):
    (deployable / "deploy/group_vars/production/served.yml").write_text("app_queues_served: [late]\n")

    answer = drumline("drain", "--resume", "--show")

    assert answer.code == 0, answer.err
    assert "systemctl start drumline-worker@late-1 drumline-worker@late-2" in answer.out
    assert answer.out.count("drumline-worker@") == 2, answer.out


UNITS = json.dumps(
    [{"unit": "drumline-web@1.service", "load": "loaded", "active": "active", "sub": "running", "description": "Web"}]
)
DAYS = "The certificate of the site expires in {} days, on Dec 27 00:00:00 2026 GMT."


@pytest.fixture
def host_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Put an ssh first in PATH, at whose other end a host prints a text and ends with a status."""

    def say(text: str, status: int = 0) -> None:
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin/said").write_text(text)
        (tmp_path / "bin/ssh").write_text(f"#!/bin/sh\ncat {tmp_path}/bin/said\nexit {status}\n")
        (tmp_path / "bin/ssh").chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}/bin", prepend=":")

    return say


@pytest.mark.parametrize(
    ("priority", "days", "level", "code"), [(6, 60, "ok", 0), (4, 20, "warning", 0), (3, 5, "error", 1)]
)
@pytest.mark.usefixtures("deployable")
def test_status_says_when_each_certificate_expires_and_fails_when_one_is_about_to(
    drumline: Drumline, host_says: Callable[[str], None], *, priority: int, days: int, level: str, code: int
):
    authority = "The certificate of the private authority expires in 3000 days."
    host_says(f"/opt/drumline/releases/3f2a\n{UNITS}\n<{priority}>{DAYS.format(days)}\n<6>{authority}\n")

    answer = drumline("status", "--json")
    assert answer.code == code, answer.err
    (host,) = json.loads(answer.out).values()
    assert host["certificates"] == [
        {"level": level, "says": DAYS.format(days)},
        {"level": "ok", "says": authority},
    ]
    assert host["release"] == "3f2a"
    assert [unit["name"] for unit in host["processes"]] == ["drumline-web@1.service"]

    answer = drumline("status")
    assert answer.code == code
    assert f"● {DAYS.format(days)}" in answer.out
    assert (DAYS.format(days) in answer.err) == bool(code)


@pytest.mark.usefixtures("deployable")
def test_status_asks_for_the_certificates_that_the_host_itself_watches(drumline: Drumline, tmp_path: Path):
    command = shlex.split(drumline("status", "--show").out)[-1].split("; ")[-1]
    unit = tmp_path / "drumline-certificate.service"
    watched = [{"name": "the site", "at": str(tmp_path / "missing.crt")}]
    unit.write_text(
        Playbooks(tls_watched=watched)
        .text("tls", ANSIBLE / "roles/tls/templates/drumline-certificate.service")
        .replace("/usr/local/libexec/", f"{ANSIBLE}/roles/tls/files/")
    )

    ran = subprocess.run(
        ["sh", "-c", command.replace("/etc/systemd/system/drumline-certificate.service", str(unit))],
        capture_output=True,
        text=True,
        check=False,
    )

    assert ran.stdout == (
        f"<3>No certificate of the site found at {tmp_path}/missing.crt. See the journal of the service that should show it.\n"
    )


HELD = json.dumps({"who": "ada", "machine": "laptop", "process": "1", "since": "noon"})
CLOSED = json.dumps({"who": "bob", "machine": "desk", "process": "2", "since": "dawn", "reason": "the database moves"})


@pytest.mark.parametrize(
    ("options", "said", "told"),
    [
        ([], "\n\n", "127.0.0.1  nobody is deploying"),
        ([], f"{HELD}\n\n", "127.0.0.1  ada since noon, on laptop"),
        ([], f"\n{CLOSED}\n", "127.0.0.1  locked by bob since dawn: the database moves"),
        (["--release"], "\n\n", "127.0.0.1  unlocked"),
        (["--release"], f"\n{CLOSED}\n", "127.0.0.1  locked by bob since dawn: the database moves"),
    ],
)
@pytest.mark.usefixtures("deployable")
def test_lock_tells_who_deploys_and_who_keeps_others_from_it(
    drumline: Drumline, host_says: Callable[..., None], options: list[str], said: str, told: str
):
    host_says(said)

    answer = drumline("lock", *options)

    assert (answer.code, answer.out) == (0, f"{told}\n"), answer.err


@pytest.mark.parametrize("verb", ["history", "lock"])
@pytest.mark.usefixtures("deployable")
def test_a_host_that_refuses_to_tell_is_no_answer(drumline: Drumline, host_says: Callable[..., None], verb: str):
    """What root alone may read was "nothing yet" for everybody else."""
    host_says("", status=1)

    answer = drumline(verb)

    assert answer.code == 1, answer.out
    assert "nothing yet" not in answer.out
    assert "nobody" not in answer.out


def test_config_names_the_file_and_the_line_that_count(deployable: Path, drumline: Drumline):
    answer = json.loads(drumline("config", "app_settings_module", "--json").out)
    assert answer["value"] == "proj.settings"
    last = answer["from"][-1]
    contract = deployable / "deploy/group_vars/project/contract.yml"
    assert last["file"] == str(contract)
    assert contract.read_text().splitlines()[last["line"] - 1] == "app_settings_module: proj.settings"
    assert answer["from"][0]["file"] == str(ANSIBLE / "group_vars/all/contract.yml")


def test_a_host_s_own_value_counts_over_the_group_s(deployable: Path, drumline: Drumline):
    (deployable / "deploy/host_vars").mkdir()
    (deployable / "deploy/host_vars/127.0.0.1.yml").write_text("app_log_level: DEBUG\n")
    answer = json.loads(drumline("config", "app_log_level", "--json").out)
    assert (answer["value"], Path(answer["from"][-1]["file"]).name) == ("DEBUG", "127.0.0.1.yml")


def test_config_hides_secrets_and_what_contains_them(deployable: Path, drumline: Drumline):
    password = (deployable / "deploy/.vault-password").read_text().strip()
    secrets = vault.names(vault.decrypt(deployable / "deploy/group_vars/production/vault.yml", password))
    # Without hosts' facts, one host is not a fleet.
    for name in ("vault_postgresql_password", "app_release_secrets", ""):
        answer = drumline("config", *([name] if name else []))
        assert answer.code == 0, answer.err
        for secret in filter(None, secrets.values()):
            assert str(secret) not in answer.out


@pytest.mark.usefixtures("deployable")
def test_what_only_a_host_knows_is_said_to_be_so(drumline: Drumline):
    answer = drumline("config", "fleet_pythons")
    assert answer.code == 0, answer.err
    assert "known on the host" in answer.out
    assert "WARNING" not in answer.err


def test_rotate_replaces_generated_secrets_and_nothing_else(deployable: Path, drumline: Drumline):
    path = deployable / "deploy/group_vars/production/vault.yml"
    password = (deployable / "deploy/.vault-password").read_text().strip()
    text = vault.decrypt(path, password) + "\n# Of the bank.\nvault_bank: keep\n"
    path.write_text(vault.encrypt(text, password))
    before = vault.names(text)
    answer = drumline("secrets", "rotate", "--yes", "vault_postgresql_password")
    assert answer.code == 0, answer.err
    after_text = vault.decrypt(path, password)
    after = vault.names(after_text)
    assert {name for name in before if before[name] != after[name]} == {"vault_postgresql_password"}
    assert "# Of the bank." in after_text
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert str(after["vault_postgresql_password"]) not in answer.out + answer.err
    assert "drumline setup" in answer.out


def test_doctor_finds_what_is_wrong_in_deploy_and_says_what_to_type(deployable: Path, drumline: Drumline):
    assert drumline("doctor", "--offline").code == 0
    contract = deployable / "deploy/group_vars/project/contract.yml"
    contract.write_text(
        contract.read_text().replace("app_celery: proj.celery:app", "app_celery: proj.cellery:app\napp_quues: {}")
    )
    hosts = deployable / "deploy/production.yml"
    hosts.write_text(hosts.read_text().replace("127.0.0.1", "app1.example.com"))
    answer = drumline("doctor", "--offline", "--json")
    assert answer.code == 1
    found = {finding["what"]: finding for finding in json.loads(answer.out) if finding["level"] != "ok"}
    assert any("proj.cellery" in what and finding["fix"].startswith("drumline init") for what, finding in found.items())
    assert any("app_quues" in what and finding["fix"] == "Did you mean app_queues?" for what, finding in found.items())
    assert any("example's host" in what for what in found)


def test_a_host_on_which_the_user_may_not_use_sudo_is_a_problem_with_the_line_to_type(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(remote, "ask", lambda *_, **__: SimpleNamespace(stdout="ada\ndebian 13\n"))
    [(finding, reached)] = doctor._host(Host("app1", ("web",), "127.0.0.1", None, "ada", "", ""), {"debian 13"})

    assert (finding.level, reached) == ("problem", None)
    assert finding.what == "ada may not use sudo without a password"
    assert "ada ALL=(ALL) NOPASSWD: ALL" in finding.fix


def test_a_password_that_git_would_commit_is_a_problem(deployable: Path, drumline: Drumline):
    (deployable / "deploy/.gitignore").unlink()
    answer = drumline("doctor", "--offline")
    assert answer.code == 1
    assert "git does not ignore the vault's password" in answer.out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_gets_its_completion(drumline: Drumline, shell: str):
    assert "_DRUMLINE_COMPLETE" in drumline("completion", shell).out


def test_completion_offers_inventories_and_branches(deployable: Path):
    def offered(words: str) -> str:
        return subprocess.run(
            [sys.executable, "-m", "drumline_cli"],
            env={"PATH": "/usr/bin:/bin", "_DRUMLINE_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()))},
            cwd=deployable,
            capture_output=True,
            text=True,
            check=False,
        ).stdout  # fmt: skip

    assert "production" in offered("drumline deploy -i ")
    assert "main" in offered("drumline deploy ")


def test_every_variable_that_init_writes_is_in_the_reference(deployable: Path):
    reference = (ANSIBLE.parent / "docs/configuration.md").read_text()
    for path in sorted((deployable / "deploy/group_vars").glob("*/*.yml")):
        if path.name != "vault.yml":
            for name in yaml.safe_load(path.read_text()):
                assert name.startswith("ansible_") or f"| `{name}` |" in reference, f"{path.name}: {name}"
    for name in (*vault.GENERATED, *vault.GIVEN):
        assert f"| `{name}` |" in reference


def test_every_verb_has_a_place_in_the_help_and_explains_itself():
    listed = cli.list_commands(None)  # type: ignore[arg-type]
    assert sorted(listed) == sorted(cli.commands)
    assert all(command.help and command.help[0].isupper() for command in cli.commands.values())


def test_a_checkout_uses_its_own_playbooks():
    assert bundle.ansible() == ANSIBLE
