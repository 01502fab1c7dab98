"""Releases that must not go live: each is refused with its reason, what ran before runs on, and nothing of it stays.

    pytest tests/faults/test_bad_releases.py --hosts=ssh://drumline-local --ssh-config=build/ssh/config --sudo

Each takes a minute or two.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import yaml

from tests.support import paths
from tests.support.on_host import Deploy, inventory_of, last_line, run_site, state
from tests.support.source import ENDS_AT_ONCE, copy_source

if TYPE_CHECKING:
    from testinfra.host import Host

ENDS_SOON = "\nimport os, threading\nthreading.Timer(5, os._exit, (1,)).start()\n"
WORKER_ENDS_SOON = """
import os, threading
from celery.signals import worker_ready


@worker_ready.connect
def end_soon(**_):
    threading.Timer({seconds}, os._exit, (1,)).start()
"""

MIGRATION = """
from django.db import migrations
class Migration(migrations.Migration):
    dependencies = {dependencies}
    operations = [migrations.RunSQL({sql!r})]
"""


def append(path: str, text: str) -> Callable[[Path], None]:
    """A fault at the end of a file of the application."""

    def apply(app: Path) -> None:
        (app / path).write_text((app / path).read_text() + text)

    return apply


def ends_soon(app: Path) -> None:
    append("config/wsgi.py", ENDS_SOON)(app)
    # Workers alone: a management command may take longer.
    append("config/celery.py", WORKER_ENDS_SOON.format(seconds=5))(app)


def answers_500(app: Path) -> None:
    path = app.parent / "drumline/src/drumline/health/middleware.py"
    path.write_text(
        path.read_text().replace("def readyz() -> JsonResponse:", "def readyz() -> JsonResponse:\n    1 / 0")
    )


def second_of_three_migrations_fails(app: Path) -> None:
    folder = app / "apps/users/migrations"
    last = max(path.stem for path in folder.glob("[0-9]*.py"))
    names = ["9001_bad_one", "9002_bad_two", "9003_bad_three"]
    for name, before, sql in zip(
        names, [last, *names], ("SELECT 1", "SELECT no_such_column", "SELECT 1"), strict=False
    ):
        text = MIGRATION.format(dependencies=[("users", before)], sql=sql)
        (folder / f"{name}.py").write_text(text)


def drops_a_column(app: Path) -> None:
    folder = app / "apps/products/migrations"
    last = max(path.stem for path in folder.glob("[0-9]*.py"))
    operation = "migrations.RemoveField('product', 'stock')"
    text = MIGRATION.format(dependencies=[("products", last)], sql="").replace("migrations.RunSQL('')", operation)
    (folder / "9001_drops.py").write_text(text)


class Bad(NamedTuple):
    """What is wrong with a release, what the message of the playbook must hold, and what the inventory says."""

    harm: Callable[[Path], None]
    said: tuple[str, ...]
    variables: dict[str, str] = {}


RELEASES = {
    "workers that end as they start": Bad(
        append("config/celery.py", ENDS_AT_ONCE), ("did not become active", "this release has no workers", "runs again")
    ),
    "an import that fails in wsgi.py": Bad(
        append("config/wsgi.py", "\nimport no_such_module\n"), ("No module named 'no_such_module'", "runs again")
    ),
    "web and workers that end after 5 s": Bad(ends_soon, ("soon after its start", "runs again")),
    "workers that end after 20 s": Bad(
        append("config/celery.py", WORKER_ENDS_SOON.format(seconds=20)), ("soon after its start", "runs again")
    ),
    "web that ends after 5 s": Bad(
        append("config/wsgi.py", ENDS_SOON),
        ("drumline-web@1.service lost processes soon after its start", "runs again"),
    ),
    "a readiness that answers 500": Bad(answers_500, ("/readyz answers 500", "ZeroDivisionError", "runs again")),
    "a failing check": Bad(
        append("config/settings/production.py", "\nSECURE_HSTS_SECONDS = 0\nROOT_URLCONF = 'config.no_such_urls'\n"),
        ("No module named 'config.no_such_urls'", "Nothing that runs was changed"),
    ),
    "static files that cannot be collected": Bad(
        append("config/settings/production.py", "\nSTATICFILES_FINDERS = ['config.no_such_finders.F']\n"),
        ("collectstatic", "No module named 'config.no_such_finders'", "Nothing that runs was changed"),
    ),
    "the second of three migrations": Bad(
        second_of_three_migrations_fails,
        ("migrate --no-input", "no_such_column", "applied and stay: users.9001_bad_one."),
    ),
    "a migration that the running release cannot live with": Bad(
        drops_a_column,
        ("products.9001_drops removes or renames the column products_product.stock", "Nothing that runs was changed"),
        {"app_breaking_migrations": "refuse"},
    ),
}

SEND = """
from drumline.tasks import ping
print(*[ping.apply_async(args=[30], queue="low").id for _ in range(2)])
"""
# The certificate is checked elsewhere.
READY = """
import http.client, ssl
connection = http.client.HTTPSConnection("127.0.0.1", context=ssl._create_unverified_context(), timeout=20)
connection.request("GET", "/readyz")
print(connection.getresponse().status)
"""
ROWS = """
import json, sys
from drumline.models import DurableTask, Worker
rows = DurableTask.objects.filter(id__in=sys.stdin.read().split())
workers = dict(Worker.objects.values_list("id", "name"))
print(json.dumps([[workers.get(row.worker_id, ""), row.get_state_display(), row.attempt] for row in rows]))
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """The source of another release."""
    return copy_source(tmp_path)


@pytest.fixture
def model() -> dict[str, Any]:
    """The process model as it is shipped."""
    loaded: dict[str, Any] = yaml.safe_load((paths.ANSIBLE / "group_vars/all/processes.yml").read_text())
    return loaded


@pytest.fixture
def inventory(request: pytest.FixtureRequest) -> Path:
    return inventory_of(request.config)


def without_group(name: str, node: Any) -> Any:
    """An inventory's content without the hosts of a group."""
    if not isinstance(node, dict):
        return node
    return {key: {} if key == name else without_group(name, value) for key, value in node.items()}


def deploy(inventory: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run site.yml, as far as it deploys."""
    return run_site(inventory, *(options or ["--tags=app_release,app_services"]))


@pytest.mark.parametrize("bad", RELEASES.values(), ids=RELEASES.keys())
def test_a_bad_release_is_refused_and_what_ran_before_runs_on(
    host: Host, inventory: Path, source: Path, bad: Bad
) -> None:
    before = state(host)
    bad.harm(source / "app")

    variables = {"app_source": str(source), **bad.variables}
    ran = deploy(inventory, "--tags=app_release,app_services", f"--extra-vars={json.dumps(variables)}")

    output = ran.stdout + ran.stderr
    (paths.PROJECT / "build" / "refused.txt").write_text(output)
    assert ran.returncode != 0, f"a release that cannot work was deployed:\n{output[-3000:]}"
    for words in bad.said:
        assert words in output, f"the message does not say {words!r}:\n{output[-6000:]}"
    assert state(host) == before
    assert host.check_output(f"python3 -c '{READY}'") == "200"


def test_what_a_host_no_longer_runs_is_drained_and_then_forgotten(
    host: Host, inventory: Path, model: dict[str, Any]
) -> None:
    sent = last_line(host, SEND)
    deadline = time.monotonic() + 60
    while not any(
        name.startswith("low-2@") for name, state, _ in json.loads(last_line(host, ROWS, sent)) if state == "Running"
    ):
        assert time.monotonic() < deadline, "the second instance of low took no task"
    queues = {**model["app_queues"], "low": model["app_queues"]["low"] | {"instances": 1}}
    fewer = {"app_queues": queues, "app_services_processes": ["web", "worker", "beat", "relay"]}

    try:
        ran = deploy(inventory, "--tags=app_services", f"--extra-vars={json.dumps(fewer)}")

        assert ran.returncode == 0, ran.stdout[-4000:]
        for unit in ("drumline-worker@low-2.service", "drumline-flower.service"):
            assert host.check_output(f"systemctl show -P ActiveState '{unit}'") == "inactive", unit
        ended = host.check_output("journalctl --unit=drumline-worker@low-2.service --since=-10min --output=cat")
        assert "Failed to load environment files" not in ended
        assert {
            (state, attempt) for name, state, attempt in json.loads(last_line(host, ROWS, sent)) if "low-2" in name
        } == {("Finished", 1)}
        left = "ls /etc/drumline/worker/low-2.env /etc/drumline/flower.env /etc/systemd/system/drumline-flower.service"
        assert host.run(left).stdout == ""
    finally:
        restored = deploy(inventory, "--tags=app_release,flower")
    assert restored.returncode == 0, restored.stdout[-4000:]


def test_a_host_that_leaves_group_web_has_no_web_server_any_more(host: Host, inventory: Path) -> None:
    try:
        # Beside the other one, since it names files by their place.
        with tempfile.TemporaryDirectory(dir=inventory.parent) as folder:
            other = shutil.copytree(inventory, folder, dirs_exist_ok=True)
            for file in Path(other).glob("*.yml"):
                file.write_text(json.dumps(without_group("web", yaml.safe_load(file.read_text()))))
            left = deploy(Path(other), "--tags=nginx,tls")

        assert left.returncode == 0, left.stdout[-4000:]
        assert not host.service("nginx").is_running
        assert not host.service("nginx").is_enabled
        assert host.run("ls /etc/drumline/tls/site.crt /etc/drumline/tls/site.key").stdout == ""
    finally:
        restored = deploy(inventory, "--tags=nginx,tls")
    assert restored.returncode == 0, restored.stdout[-4000:]
    assert host.service("nginx").is_enabled
    assert host.check_output(f"python3 -c '{READY}'") == "200"


def test_a_queue_that_tasks_are_sent_to_does_not_leave_the_process_model(
    host: Host, inventory: Path, model: dict[str, Any]
) -> None:
    before = state(host)
    queues = {name: numbers for name, numbers in model["app_queues"].items() if name != "low"}

    ran = deploy(inventory, "--tags=app_services", f"--extra-vars={json.dumps({'app_queues': queues})}")

    assert ran.returncode != 0, ran.stdout[-3000:]
    assert "The process model was rejected" in ran.stdout
    assert "queue low is not served" in ran.stdout
    assert state(host) == before


def test_of_two_deploys_at_once_one_is_refused_and_learns_who_is_at_it(
    host: Host, inventory: Path, source: Path
) -> None:
    (source / "app" / "another").write_text("one of two")
    first = Deploy(inventory, f"--extra-vars=app_source={source}")
    first.reach("Upload the artefact")

    second = deploy(inventory, "--tags=app_services")
    done = first.end()

    assert second.returncode != 0
    assert " has been deploying to this host since " in second.stdout
    assert "Wait for that deploy to finish, then run the playbook again." in second.stdout
    assert done.returncode == 0, done.stdout[-4000:]
    assert json.loads(host.check_output("tail -n 1 /opt/drumline/shared/deploys.jsonl"))["outcome"] == "runs"


MOUNT = """
set -eu
mkdir -p /mnt/plain /mnt/small
mount --bind /opt/drumline /mnt/plain
mount -t tmpfs -o size=4g small /mnt/small
cp --archive /opt/drumline/. /mnt/small/
mount --bind /mnt/small /opt/drumline
"""
FILL = "rm -f /opt/drumline/full; head -c $(($(stat -f -c '%a * %S' /opt/drumline) - {left} * 1024 * 1024)) /dev/zero > /opt/drumline/full"
UNMOUNT = """
set -eu
rm -f /opt/drumline/full
umount --lazy /opt/drumline
cp --archive --update /mnt/small/. /mnt/plain/
umount --lazy /mnt/small /mnt/plain
"""


@pytest.fixture
def small_disk(host: Host) -> Iterator[None]:
    """The releases lie on a file system of their own."""
    host.check_output(MOUNT)
    yield
    host.check_output(UNMOUNT)


@pytest.mark.usefixtures("small_disk")
def test_a_full_disk_is_named_whichever_step_it_stops_and_the_next_deploy_works_once_there_is_room(
    host: Host, inventory: Path, source: Path
) -> None:
    (source / "app" / "another").write_text(f"on a full disk {time.time()}")
    before = state(host)

    # Room for nothing, for the artefact, and for the release without its static files; in megabytes. Its dependencies are there.
    for left in (0, 1, 5):
        host.check_output(FILL.format(left=left))
        ran = deploy(inventory, "--tags=app_release,app_services", f"--extra-vars=app_source={source}")

        (paths.PROJECT / "build" / f"full-{left}.txt").write_text(ran.stdout + ran.stderr)
        assert ran.returncode != 0, ran.stdout[-4000:]
        assert "No space left on device" in ran.stdout, ran.stdout[-4000:]
        assert "Nothing that runs was changed" in ran.stdout, ran.stdout[-4000:]
        assert state(host) == before
        assert host.check_output(f"python3 -c '{READY}'") == "200"

    host.check_output("rm /opt/drumline/full")
    ran = deploy(inventory, "--tags=app_release,app_services", f"--extra-vars=app_source={source}")
    assert ran.returncode == 0, ran.stdout[-4000:]
