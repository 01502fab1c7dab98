"""init reads a project without running it, and writes a deploy/ that the playbooks understand."""

from __future__ import annotations

import io
import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from drumline_cli import vault
from tests.command.conftest import FIRST_STEPS, Drumline, commit, write
from tests.playbooks.test_bad_input import THIS_MACHINE
from tests.support.paths import PROJECT


def variables(checkout: Path, name: str) -> dict[str, object]:
    found: dict[str, object] = yaml.safe_load((checkout / "deploy/group_vars/project" / name).read_text())
    return found


def test_first_steps_with_django_is_described_from_its_source_alone(project: Path, drumline: Drumline):
    answer = drumline("init", "--yes", "--host", "app1.example.org")
    assert answer.code == 0, answer.err
    contract = variables(project, "contract.yml")
    assert contract["app_settings_module"] == "proj.settings"
    assert contract["app_celery"] == "proj.celery:app"
    assert contract["app_wsgi"] == "proj.wsgi:application"
    assert contract["app_root"] == "."
    assert contract["app_health_path"] == "/healthz/"
    queues = variables(project, "processes.yml")["app_queues"]
    assert isinstance(queues, dict)
    # Routes, tasks, senders, and Celery's own default.
    assert {entry.get("queue", key) for key, entry in queues.items()} == {
        "HIGH-priority",
        "Celery",
        "reports",
        "late",
        "celery",
    }
    # A task's own limits carry its queue.
    assert (queues["reports"]["soft_time_limit"], queues["reports"]["time_limit"]) == (600, 900)


def test_the_preflight_of_the_playbooks_accepts_what_init_writes(deployable: Path, drumline: Drumline):
    this_machine = deployable / "this-machine.json"
    this_machine.write_text(json.dumps(THIS_MACHINE | {"ansible_connection": "local"}))
    answer = drumline("setup", "--check", "--args", f"--tags preflight --extra-vars @{this_machine}")
    assert answer.code == 0, answer.out + answer.err
    assert "0 changed" in answer.out


def test_the_example_project_is_found_with_its_queues_and_its_production_settings(drumline: Drumline):
    answer = drumline("init", "--json", "--project", str(PROJECT))
    found = json.loads(answer.out)
    assert found["root"] == "app"
    assert found["settings"][0]["value"] == "config.settings.production"
    assert found["celery"][0]["value"] == "config.celery:app"
    assert {queue["name"] for queue in found["queues"]} == {"high", "default", "low"}
    assert found["user_model"] == "users.User"
    assert found["health"] == "/readyz"
    assert found["ledger"] is True
    assert "second_factor" in {command["value"] for command in found["commands"]}


def test_the_project_is_never_run(project: Path, drumline: Drumline):
    bomb = "import pathlib\npathlib.Path(__file__).with_name('ran').touch()\n"
    for path in project.rglob("*.py"):
        path.write_text(bomb + path.read_text())
    drumline("init", "--yes")
    assert list(project.rglob("ran")) == []


def test_secrets_are_encrypted_private_and_kept_out_of_git(project: Path, drumline: Drumline):
    answer = drumline("init", "--yes")
    password = (project / "deploy/.vault-password").read_text().strip()
    text = vault.decrypt(project / "deploy/group_vars/production/vault.yml", password)
    secrets = vault.names(text)
    assert set(vault.GENERATED) < set(secrets)
    for secret in (password, *(str(value) for value in secrets.values() if value)):
        assert secret not in answer.out + answer.err
    for name in (".vault-password", "group_vars/production/vault.yml"):
        assert stat.S_IMODE((project / "deploy" / name).stat().st_mode) == 0o600
    added = subprocess.run(
        ["git", "add", "--all", "--verbose"], cwd=project, capture_output=True, text=True, check=True
    )
    assert "contract.yml" in added.stdout
    assert ".vault-password" not in added.stdout


def test_a_second_run_changes_nothing_unless_told_to(project: Path, drumline: Drumline):
    drumline("init", "--yes")
    before = {path: path.read_bytes() for path in (project / "deploy").rglob("*") if path.is_file()}
    assert "nothing to change" in drumline("init", "--yes").out

    write(project, {"demoapp/more.py": "from celery import shared_task\n@shared_task(queue='mail')\ndef send(): ...\n"})
    proposed = drumline("init", "--yes")
    assert "+  mail:" in proposed.out
    assert "drumline init --apply" in proposed.out
    assert {path: path.read_bytes() for path in before} == before

    assert drumline("init", "--apply").code == 0
    changed = [path.name for path, content in before.items() if path.read_bytes() != content]
    assert changed == ["processes.yml"]
    queues = variables(project, "processes.yml")["app_queues"]
    assert isinstance(queues, dict)
    assert "mail" in queues
    assert "nothing to change" in drumline("init", "--yes").out


def test_a_second_run_keeps_what_the_user_wrote(project: Path, drumline: Drumline):
    drumline("init", "--yes")
    contract = project / "deploy/group_vars/project/contract.yml"
    contract.write_text(
        contract.read_text().replace("app_env: {}", "app_env:\n  FEATURE: 'on'\n  # kept") + "\napp_log_level: DEBUG\n"
    )
    (project / "proj/settings.py").rename(project / "proj/production.py")
    for path in ("manage.py", "proj/celery.py"):
        (project / path).write_text((project / path).read_text().replace("proj.settings", "proj.production"))
    assert drumline("init", "--apply").code == 0
    after = contract.read_text()
    assert "FEATURE: 'on'\n  # kept" in after
    assert "app_log_level: DEBUG" in after
    assert yaml.safe_load(after)["app_settings_module"] == "proj.production"


class Keyboard(io.StringIO):
    """What somebody types at a terminal."""

    def isatty(self) -> bool:
        return True


def test_what_the_source_does_not_say_is_asked(project: Path, drumline: Drumline, monkeypatch: pytest.MonkeyPatch):
    write(project, {"proj/staging.py": "from proj.settings import *", "uv.lock": 'name = "gunicorn"\nhash = ""\n'})
    (project / "proj/wsgi.py").write_text("import os\nos.environ['DJANGO_SETTINGS_MODULE'] = 'proj.staging'\n")
    typed = ["proj.settings", "requirements.txt", "app1.example.org app2.example.org", "root", "www.example.org"]
    monkeypatch.setattr(sys, "stdin", Keyboard("\n".join(typed) + "\n"))
    answer = drumline("init")
    assert answer.code == 0, answer.err
    for question in ("Settings module", "Locked dependencies", "Host to deploy to", "sudo", "Names of the site"):
        assert question in answer.err
    contract = variables(project, "contract.yml")
    assert contract["app_settings_module"] == "proj.settings"
    hosts = yaml.safe_load((project / "deploy/production.yml").read_text())
    groups = hosts["project"]["children"]["production"]["children"]
    assert list(groups["web"]["hosts"]) == ["app1.example.org", "app2.example.org"]
    # One host holds the data and the schedule.
    assert list(groups["beat"]["hosts"]) == list(groups["postgresql"]["hosts"]) == ["app1.example.org"]


def test_an_interrupted_init_leaves_nothing(project: Path, drumline: Drumline, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "stdin", Keyboard(""))
    answer = drumline("init")
    assert (answer.code, "Traceback" in answer.err) == (130, False)
    assert not (project / "deploy").exists()


def test_a_deploy_folder_of_another_tool_keeps_its_files(project: Path, drumline: Drumline):
    others = {"deploy/compose.yml": "services: {web: {image: x}}\n", "deploy/ingress.yml": "kind: a\n---\nkind: b\n"}
    write(project, others)
    assert "no deploy/ yet" in drumline("setup").err
    assert drumline("init", "--yes", "--host", "app1.example.org").code == 0
    assert {name: (project / name).read_text() for name in others} == others
    assert drumline("setup", "--show").code == 0


def test_a_file_of_another_tool_is_never_replaced(project: Path, drumline: Drumline):
    write(project, {"deploy/production.yml": "services: {web: {image: x}}\n"})
    answer = drumline("init", "--yes")
    assert answer.code == 3
    assert "git mv deploy/production.yml" in answer.err
    assert sorted(path.name for path in (project / "deploy").iterdir()) == ["production.yml"]


def test_show_prints_the_files_and_writes_none(project: Path, drumline: Drumline):
    answer = drumline("init", "--show")
    assert "deploy/group_vars/project/contract.yml" in answer.out
    assert not (project / "deploy").exists()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ("from .routes import CELERY_TASK_ROUTES", {"elsewhere"}),
        ("CELERY_TASK_ROUTES = [('x.*', {'queue': 'paired'})]", {"paired"}),
        ("CELERY_TASK_ROUTES = ([('a', {'queue': 'one'}), ('b', {'queue': 'two'})],)", {"one", "two"}),
        ("QUEUE = 'named'\nCELERY_TASK_ROUTES = {'x': {'queue': QUEUE}}", {"named"}),
        ("if True:\n    CELERY_TASK_ROUTES = {}\n    CELERY_TASK_ROUTES['x'] = {'queue': 'set'}", {"set"}),
        ("import os\nCELERY_TASK_ROUTES = {'x': {'queue': os.getenv('Q', 'given')}}", {"given"}),
        ("from kombu import Queue\nCELERY_TASK_QUEUES = (Queue('declared'), Queue(name='also'))", {"declared", "also"}),
        ("CELERY_TASK_DEFAULT_QUEUE = 'mine'", {"mine"}),
        ("from proj import routes\nfrom proj.routes import CELERY_TASK_ROUTES as CELERY_ROUTES", {"elsewhere"}),
        ("CELERY_BEAT_SCHEDULE = {'x': {'task': 't', 'options': {'queue': 'timed'}}}", {"timed"}),
        ("CELERY_TASK_ROUTES = 'proj.routes.Router'", set()),
    ],
)
def test_queues_are_found_however_settings_name_them(
    project: Path, drumline: Drumline, settings: str, expected: set[str]
):
    write(project, {"proj/routes.py": "CELERY_TASK_ROUTES = {'x': {'queue': 'elsewhere'}}", "demoapp/tasks.py": ""})
    path = project / "proj/settings.py"
    text = "\n".join(line for line in path.read_text().splitlines() if "ROUTES" not in line)
    path.write_text(f"{text}\n{settings}\n")
    found = {queue["name"] for queue in json.loads(drumline("init", "--json").out)["queues"]}
    assert found - {"celery"} == expected


def test_routes_that_only_code_knows_are_said(project: Path, drumline: Drumline):
    path = project / "proj/settings.py"
    path.write_text(
        path.read_text().replace('"proj.wsgi.application"', '"proj.wsgi.application"\nCELERY_ROUTES = make()')
    )
    assert "which queues it names was not seen (proj/settings.py:" in drumline("init", "--yes").out


def test_a_queue_that_is_a_setting_is_found(project: Path, drumline: Drumline):
    write(project, {"demoapp/tasks.py": "@shared_task(queue=settings.MAIL_QUEUE)\ndef send(): ...\n"})
    with (project / "proj/settings.py").open("a") as file:
        file.write("MAIL_QUEUE = os.environ.get('MAIL_QUEUE', 'mail')\n")
    assert "mail" in {queue["name"] for queue in json.loads(drumline("init", "--json").out)["queues"]}


def test_a_file_for_a_newer_python_is_searched_for_queues(project: Path, drumline: Drumline):
    write(project, {"demoapp/newer.py": "@shared_task(queue='newest')\ndef task[T](): return t'{x'\n"})
    answer = json.loads(drumline("init", "--json").out)
    assert "newest" in {queue["name"] for queue in answer["queues"]}
    assert any("demoapp/newer.py" in note for note in answer["notes"])


def test_a_project_in_a_subfolder_is_found(tmp_path: Path, drumline: Drumline):
    write(tmp_path, {f"backend/{name}": text for name, text in FIRST_STEPS.items()})
    commit(tmp_path)
    assert json.loads(drumline("init", "--json", "-C", str(tmp_path)).out)["root"] == "backend"
