"""A project that nobody wrote for Drumline, deployed to a test host of its own as its users would: init, setup, deploy.

tests/projects/<name> holds how to obtain its source, and in user.yml what a user writes beside that which `drumline init` wrote.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import runpy
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import yaml

from drumline_cli import vault
from tests.support.paths import BIN, PROJECT, TESTHOST
from tests.support.waiting import wait_until

ADMIN = "admin@example.com"
IDENTITY = {f"GIT_{who}_{what}": "ada@example.com" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
# A look at the ledger, as its own command prints none of one task.
ATTEMPTS = """
from drumline.models import DurableTask
row = DurableTask.objects.filter(id={id!r}).first()
print("attempt", row and row.attempt, "state", row.get_state_display() if row else "Finished")
"""


SCHEDULED = """
from django_celery_beat.models import IntervalSchedule, PeriodicTask
every, _ = IntervalSchedule.objects.get_or_create(every=1, period="seconds")
PeriodicTask.objects.update_or_create(name="proof", defaults={{"task": "drumline.ping", "interval": every, "queue": {queue!r}}})
"""
RAN = """
from django_celery_beat.models import PeriodicTask
print("ran", PeriodicTask.objects.get(name="proof").total_run_count > 0)
"""


@contextlib.contextmanager
def deployed(
    name: str, folder: Path, *, debian: str = "13", variables: dict[str, Any] | None = None, **options: str
) -> Iterator[ForeignProject]:
    """A project that runs on its host and was verified; the host is removed also where that fails."""
    project = ForeignProject(name, folder, debian=debian, **options)
    try:
        project.put(**(variables or {}))
        project.bring_up()
        project.drumline("verify")
        yield project
    finally:
        project.down()


class ForeignProject:
    """The checkout of a project, its deploy/, and the host that runs it."""

    def __init__(self, name: str, folder: Path, *, debian: str = "13", **options: str) -> None:
        self.name = name
        self.host = f"project-{name.replace('_', '-')}"
        self.files = PROJECT / "tests" / "projects" / name
        self.checkout = folder / name
        runpy.run_path(str(self.files / "source.py"))["make"](self.checkout)
        self._git("init", "--quiet", "--initial-branch=main")
        self.commit("Begin.")
        told = json.loads(self._run(TESTHOST, "up", self.host, f"--debian={debian}", "--json"))
        self.address = told["ssh_host"]
        self.url = f"https://{self.address}"
        self._init(told, options)
        self.minutes = 0.0
        self._clients: list[httpx.Client] = []

    def _init(self, told: dict[str, Any], options: dict[str, str]) -> None:
        given = {"host": self.address, "admin-email": ADMIN, **options}
        self.said = self.drumline("init", "--yes", *(f"--{name}={value}" for name, value in given.items()))
        reached = {
            "ansible_port": told["ssh_port"],
            "ansible_private_key_file": told["key"],
            "ansible_ssh_common_args": f'-o IdentitiesOnly=yes -o UserKnownHostsFile="{told["known_hosts"]}"',
        }
        (self.deploy / "group_vars/production/reached.yml").write_text(yaml.safe_dump(reached))
        # Sorted behind the files of init, which it changes.
        self._wrote = self.deploy / "group_vars/project/user.yml"
        self.put(**(yaml.safe_load((self.files / "user.yml").read_text()) or {}))
        for path in self._further():
            (self.deploy / path.name).write_text(path.read_text())
        self.commit("Deploy with Drumline.")

    @property
    def deploy(self) -> Path:
        """The folder deploy/ of the checkout."""
        return self.checkout / "deploy"

    @property
    def lines(self) -> int:
        """How many lines a user wrote."""
        every = [line for path in (self.files / "user.yml", *self._further()) for line in path.read_text().splitlines()]
        return sum(1 for line in every if line.strip() and not line.startswith(("#", "---")))

    def _further(self) -> list[Path]:
        return sorted(self.files.glob("deploy/*"))

    def put(self, **variables: Any) -> None:
        """Change the contract as in an editor: of a variable with names, those that are given, where null removes one."""
        written = [self.deploy / "group_vars/project/contract.yml", self._wrote]
        before: dict[str, Any] = {}
        for path in written:
            before |= (yaml.safe_load(path.read_text()) if path.exists() else None) or {}
        changed = yaml.safe_load(self._wrote.read_text()) if self._wrote.exists() else {}
        for name, value in variables.items():
            merged = {**before.get(name, {}), **value} if isinstance(value, dict) else value
            if isinstance(merged, dict):
                merged = {key: each for key, each in merged.items() if each is not None}
            changed[name] = merged
        self._wrote.write_text(yaml.safe_dump(changed, sort_keys=False))

    def commit(self, message: str) -> None:
        """Commit the checkout as it is."""
        self._git("add", "--all")
        self._git("commit", "--quiet", f"--message={message}")

    def _git(self, *arguments: str) -> None:
        subprocess.run(["git", *arguments], cwd=self.checkout, check=True, env=os.environ | IDENTITY)

    def drumline(self, *arguments: str) -> str:
        """Run the command in the checkout, and return all that it printed."""
        return self._run(BIN / "drumline", *arguments, cwd=self.checkout)

    def set_up(self, **variables: Any) -> str:
        """Change the contract, provision and deploy again, and return what `verify` printed."""
        self.put(**variables)
        self.drumline("setup")
        return self.drumline("verify")

    def deploy_commit(self, message: str) -> None:
        """Commit the checkout as it is and deploy it: another release."""
        before = self.release()
        self.commit(message)
        self.drumline("deploy", "main")
        assert self.release() != before

    def bring_up(self) -> str:
        """Provision the host and deploy; keep how long it took from the checkout to the site."""
        started = time.monotonic()
        said = self.drumline("setup")
        assert self.client().get("/").status_code < 500
        self.minutes = (time.monotonic() - started) / 60
        self._keep(said)
        return said

    def _keep(self, said: str) -> None:
        kept = PROJECT / "build" / "projects"
        kept.mkdir(parents=True, exist_ok=True)
        (kept / f"{self.name}.log").write_text(f"{self.said}\n{said}")
        numbers = {"project": self.name, "minutes": round(self.minutes, 1), "lines": self.lines}
        (kept / f"{self.name}.json").write_text(f"{json.dumps(numbers)}\n")

    def client(self) -> httpx.Client:
        """A browser that trusts the site's own authority."""
        trusted = ssl.create_default_context(cafile=str(self.deploy / "secrets/ca.crt"))
        self._clients.append(httpx.Client(base_url=self.url, verify=trusted, timeout=30))
        return self._clients[-1]

    def sign_in(self, *, login: str = "/admin/login/", inside: str = "/admin/", user: str = "username") -> httpx.Client:
        """A browser in which the first administrator has signed in: at Django's admin, or at a form of the project's own."""
        secrets = vault.decrypt(
            self.deploy / "group_vars/production/vault.yml", (self.deploy / ".vault-password").read_text().strip()
        )
        client = self.client()
        assert client.get(inside).status_code == 302, "a stranger is sent to the login page"
        page = client.get(login, params={"next": inside})
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)
        assert token, page.text[:500]
        fields = {user: ADMIN, "password": yaml.safe_load(secrets)["vault_admin_password"]}
        answer = client.post(
            login,
            params={"next": inside},
            data=fields | {"csrfmiddlewaretoken": token[1], "next": inside},
            headers={"Referer": f"{self.url}{login}"},
        )
        assert (answer.status_code, answer.headers.get("Location")) == (302, inside), answer.text[:500]
        assert client.get(inside).status_code == 200
        return client

    def release(self) -> str:
        """The name of the release that runs."""
        return self.on_host("readlink", "/opt/drumline/current").strip()

    def on_host(self, *command: str) -> str:
        """Run a command as root on the host, and return what it printed."""
        return self._run(TESTHOST, "exec", self.host, *command)

    def succeeds(self, *command: str) -> bool:
        """Return whether a command succeeds on the host."""
        return subprocess.run([TESTHOST, "exec", self.host, *command], capture_output=True, check=False).returncode == 0

    def unit(self, name: str, setting: str) -> str:
        """Return what holds for a unit that runs, as systemd sees it."""
        return self.on_host("systemctl", "show", "--value", f"--property={setting}", name).strip()

    def python(self, code: str) -> str:
        """Run code in the project, and return what it printed."""
        return self.on_host("drumline-manage", "shell", "--command", code)

    def send(self, task: str, *arguments: Any, **options: str) -> None:
        """Send a task as the project's own code would."""
        module, _, name = task.rpartition(".")
        self.python(f"from {module} import {name}; {name}.apply_async(args={arguments!r}, **{options!r})")

    def is_written(self, path: str, text: str) -> bool:
        """Return whether a file of the host holds a text."""
        return self.succeeds("grep", "-q", text, path)

    def kill_workers(self, queue: str = "default") -> None:
        """Kill all processes of a queue's workers at once."""
        self.on_host("systemctl", "kill", "--signal=KILL", f"drumline-worker@{queue}-1", f"drumline-worker@{queue}-2")

    def finish(self, task: str) -> None:
        """Send a task of the project's own and wait until the ledger has its end."""
        module, _, name = task.rpartition(".")
        said = self.python(f"from {module} import {name}; print('id', {name}.delay().id)")
        look = ATTEMPTS.format(id=said.partition("id ")[2].split()[0])
        wait_until(lambda: "state Finished" in self.python(look), lambda: self.python(look), seconds=90, pause=1)

    def run_by_beat(self, queue: str = "default") -> None:
        """Add a run each second to the schedule, as in the admin, and wait for one."""
        self.python(SCHEDULED.format(queue=self.queue_name(queue)))
        wait_until(lambda: "ran True" in self.python(RAN), "beat runs", seconds=90, pause=1)

    def survive_a_kill(self, queue: str = "default") -> None:
        """Kill the workers of a queue under a task of the package's own, which then runs again and ends."""
        sent = self.python(
            f"from drumline.tasks import ping; print('id', ping.apply_async(args=[20], queue={self.queue_name(queue)!r}).id)"
        )
        found = re.search(r"id (\S+)", sent)
        assert found, sent
        look = ATTEMPTS.format(id=found[1])
        wait_until(lambda: "attempt 1" in self.python(look), "the task starts", seconds=60, pause=1)
        self.kill_workers(queue)
        wait_until(lambda: "attempt 2" in self.python(look), "it starts again", seconds=120, pause=1)
        wait_until(lambda: "state Finished" in self.python(look), lambda: self.python(look), seconds=90, pause=1)
        assert self.dead_letters() == 0

    def dead_letters(self) -> int:
        """The number of tasks that failed for good."""
        status = json.loads(self.on_host("drumline-manage", "ledger", "status", "--json"))
        return sum(queue["dead"] for queue in status["queues"].values())

    def queue_name(self, key: str) -> str:
        """The name of a queue, by its key in app_queues."""
        told = json.loads(self.drumline("config", "app_queues", "--json"))
        return str(told["value"][key].get("queue", key))

    def down(self) -> None:
        """Close what is open, and remove the host."""
        for client in self._clients:
            client.close()
        self._run(TESTHOST, "down", self.host)

    def _run(self, *command: Any, cwd: Path = PROJECT) -> str:
        env = os.environ | IDENTITY | {"PATH": f"{BIN}:{os.environ['PATH']}", "NO_COLOR": "1"}
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, env=env)
        assert done.returncode == 0, f"{command}\n{done.stdout[-6000:]}\n{done.stderr[-2000:]}"
        return done.stdout
