"""A project that nobody wrote for Drumline, deployed to a test host of its own by the files in tests/projects/<name>."""

from __future__ import annotations

import json
import os
import runpy
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import yaml

from tests.support.paths import ANSIBLE, BIN, PROJECT

if TYPE_CHECKING:
    from pathlib import Path

TESTHOST = PROJECT / "tests" / "images" / "testhost.py"


class ForeignProject:
    """The checkout of a project, its inventory, and the host that runs it."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.host = f"project-{name.replace('_', '-')}"
        self.files = PROJECT / "tests" / "projects" / name
        self.checkout = folder / "checkout"
        self.inventory = folder / "inventory"
        runpy.run_path(str(self.files / "source.py"))["make"](self.checkout)
        debian = os.environ.get("DEBIAN", "13")
        told: dict[str, Any] = json.loads(self._run(TESTHOST, "up", self.host, f"--debian={debian}", "--json"))
        self.address = told["ssh_host"]
        self._write_inventory(told)

    def _write_inventory(self, told: dict[str, Any]) -> None:
        groups = ("web", "worker", "beat", "flower", "redis", "postgresql")
        reached = {
            "ansible_host": told["ssh_host"],
            "ansible_port": told["ssh_port"],
            "ansible_private_key_file": told["key"],
            "project_known_hosts": told["known_hosts"],
            "app_source": str(self.checkout),
        }
        hosts = {"project": {"children": {group: {"hosts": {self.host: None}} for group in groups}}}
        variables = self.inventory / "group_vars" / "project"
        variables.mkdir(parents=True)
        (self.inventory / "hosts.yml").write_text(yaml.safe_dump(hosts))
        (variables / "host.yml").write_text(yaml.safe_dump(reached))
        shutil.copy(self.files.parent / "base.yml", variables)
        shutil.copy(self.files / "contract.yml", variables)

    def playbook(self, *arguments: str) -> str:
        """Run a playbook over the inventory, and return what it printed."""
        env = os.environ | {"ANSIBLE_CONFIG": str(ANSIBLE / "ansible.cfg"), "PATH": f"{BIN}:{os.environ['PATH']}"}
        return self._run(BIN / "ansible-playbook", f"--inventory={self.inventory / 'hosts.yml'}", *arguments, env=env)

    def on_host(self, *command: str) -> str:
        """Run a command as root on the host, and return what it printed."""
        return self._run(TESTHOST, "exec", self.host, *command)

    def succeeds(self, *command: str) -> bool:
        """Return whether a command succeeds on the host."""
        return subprocess.run([TESTHOST, "exec", self.host, *command], capture_output=True, check=False).returncode == 0

    def send(self, task: str, *arguments: str, **options: str) -> None:
        """Send a task as the project's own code would."""
        module, _, name = task.rpartition(".")
        code = f"from {module} import {name}; {name}.apply_async(args={arguments!r}, **{options!r})"
        self.on_host("drumline-manage", "shell", "--command", code)

    def down(self) -> None:
        """Remove the host."""
        self._run(TESTHOST, "down", self.host)

    def _run(self, *command: Any, env: dict[str, str] | None = None) -> str:
        done = subprocess.run(command, cwd=ANSIBLE, capture_output=True, text=True, check=False, env=env)
        assert done.returncode == 0, f"{command}\n{done.stdout[-6000:]}\n{done.stderr[-2000:]}"
        return done.stdout
