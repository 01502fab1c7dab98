"""Back to the release before: refused with the reason while something stands in the way, then one command.

pytest tests/faults/test_rollback.py --hosts=ssh://drumline-local --ssh-config=build/ssh/config --sudo
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.on_host import last_line, run_site
from tests.support.paths import ANSIBLE
from tests.support.rendering import load
from tests.support.source import copy_source

if TYPE_CHECKING:
    from testinfra.host import Host

TASK = """

@shared_task(name="users.only_in_the_newer_release")
def only_in_the_newer_release() -> None:
    \"\"\"Do nothing.\"\"\"
"""
MIGRATION = """
from django.db import migrations
class Migration(migrations.Migration):
    dependencies = [("users", {before!r})]
    operations = [migrations.RunSQL("SELECT 1", "SELECT 2")]
"""
SEND = """
from celery import current_app
current_app.loader.import_default_modules()
print(current_app.tasks["users.only_in_the_newer_release"].apply_async(countdown=3600).id)
"""
# What the main process of a worker was started with.
STARTED_WITH = (
    "tr '\\0' '\\n' < /proc/$(systemctl show -P MainPID drumline-worker@high-1)/environ | grep -E '^CRM_' | sort"
)
APPLIED = """
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder
print(("users", "9001_newer") in MigrationRecorder(connection).applied_migrations())
"""


@pytest.fixture
def newer(tmp_path: Path) -> Path:
    """The source of a release with one more task and one more migration."""
    app = copy_source(tmp_path) / "app/apps/users"
    tasks = app / "tasks.py"
    tasks.write_text(tasks.read_text() + TASK)
    last = max(path.stem for path in (app / "migrations").glob("[0-9]*.py"))
    (app / "migrations/9001_newer.py").write_text(MIGRATION.format(before=last))
    return tmp_path


OWN = load(ANSIBLE / "inventories/local/group_vars/local/main.yml")["app_env"]


def current(host: Host) -> str:
    return Path(host.check_output("readlink /opt/drumline/current")).name


def releases(host: Host) -> list[str]:
    return sorted(host.check_output("ls /opt/drumline/releases").split())


def deploys(host: Host) -> list[dict[str, str]]:
    return [json.loads(line) for line in host.check_output("cat /opt/drumline/shared/deploys.jsonl").splitlines()]


def test_a_release_is_taken_back_by_one_command_once_nothing_stands_in_the_way(
    host: Host, request: pytest.FixtureRequest, newer: Path
) -> None:
    inventory = Path(request.config.getoption("--secrets")).resolve().parent

    def run(playbook: str, **variables: object) -> subprocess.CompletedProcess[str]:
        return run_site(inventory, f"--extra-vars={json.dumps(variables)}", playbook=playbook)

    # The same release with other variables, then a newer one with others again and with another secret.
    deployed = run("deploy.yml", app_env={**OWN, "CRM_URL": "https://before.example.com"})
    assert deployed.returncode == 0, deployed.stdout[-4000:]
    assert host.check_output(STARTED_WITH).splitlines() == [
        "CRM_TOKEN=of-the-test-host",
        "CRM_URL=https://before.example.com",
    ]
    before = current(host)
    after_env = {**OWN, "CRM_URL": "https://after.example.com"}
    deployed = run("deploy.yml", app_source=str(newer), app_env=after_env, vault_crm_token="of-last-week")
    assert deployed.returncode == 0, deployed.stdout[-4000:]
    after = current(host)
    assert after != before
    assert host.check_output(STARTED_WITH).splitlines() == [
        "CRM_TOKEN=of-last-week",
        "CRM_URL=https://after.example.com",
    ]

    task = last_line(host, SEND)
    refused = run("rollback.yml", rollback_migrations="undo")
    assert refused.returncode != 0, refused.stdout[-3000:]
    assert "users.only_in_the_newer_release: 1 wait, and the older release has no such task" in refused.stdout
    host.check_output(f"drumline-manage dead_letters discard {task} --reason 'never ran'")

    refused = run("rollback.yml")
    assert refused.returncode != 0, refused.stdout[-3000:]
    assert "the migration users.9001_newer is applied, and the older release lacks it" in refused.stdout
    assert current(host) == after

    taken_back = run("rollback.yml", rollback_migrations="undo", vault_crm_token="of-today")
    assert taken_back.returncode == 0, taken_back.stdout[-4000:]
    assert current(host) == before
    assert host.check_output(STARTED_WITH).splitlines() == ["CRM_TOKEN=of-today", "CRM_URL=https://before.example.com"]
    assert last_line(host, APPLIED) == "False"

    kept = [(entry["what"], entry["release"], entry["before"], entry["outcome"]) for entry in deploys(host)]
    refusal = ("rollback", before, after, "rejected")
    assert kept[-4:] == [("deploy", after, before, "runs"), refusal, refusal, ("rollback", before, after, "runs")]

    forward = run("rollback.yml", rollback_to=after)
    assert forward.returncode != 0, forward.stdout[-3000:]
    assert "Check that its migrations are applied" in forward.stdout
    assert current(host) == before

    there = releases(host)
    unknown = run("rollback.yml", rollback_to="ffffffffffff")
    assert unknown.returncode != 0
    assert "The release ffffffffffff is not on" in unknown.stdout
    assert after in next(line for line in unknown.stdout.splitlines() if "Releases there: " in line)
    assert run("rollback.yml", rollback_to="../releases").returncode != 0
    host.check_output("mv /opt/drumline/shared/deploys.jsonl /opt/drumline/shared/deploys.kept")
    nothing = run("rollback.yml")
    host.check_output("mv /opt/drumline/shared/deploys.kept /opt/drumline/shared/deploys.jsonl")
    assert nothing.returncode != 0
    assert "No earlier release is on record" in nothing.stdout
    assert releases(host) == there, "a rollback that was refused removed a release"
