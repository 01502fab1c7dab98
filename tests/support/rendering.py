"""What the playbooks would write, computed by Ansible's own variables and templates without a host."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

from tests.support.paths import ANSIBLE

# Ansible reads its configuration once, at the first import.
os.environ["ANSIBLE_CONFIG"] = str(ANSIBLE / "ansible.cfg")

from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import init_plugin_loader
from ansible.template import Templar, trust_as_template
from ansible.vars.hostvars import HostVars
from ansible.vars.manager import VariableManager

init_plugin_loader([])

ROLES = sorted(path for path in (ANSIBLE / "roles").iterdir() if path.is_dir())
HOST = "drumline-local"

FACTS = {
    "architecture": "x86_64",
    "default_ipv4": {"address": "192.0.2.10"},
    "distribution": "Debian",
    "distribution_major_version": "13",
    "distribution_release": "trixie",
    "machine": "x86_64",
    "memtotal_mb": 8192,
    "processor_vcpus": 2,
    "python_version": "3.13.5",
}


def load(path: Path) -> Any:
    """A YAML file, an empty one as an empty dict."""
    return yaml.safe_load(path.read_text()) or {} if path.exists() else {}


class Playbooks:
    """The variables of one host of an inventory, as a role of the site would see them."""

    def __init__(self, inventory: str | Path = "local", host: str = HOST, **overrides: Any) -> None:
        self._loader = DataLoader()
        self._loader.set_basedir(str(ANSIBLE))
        # An absolute path stays what it is.
        sources = ANSIBLE / "inventories" / inventory / "hosts.yml"
        inventories = InventoryManager(loader=self._loader, sources=[str(sources)])
        variables = VariableManager(loader=self._loader, inventory=inventories)
        for name in inventories.hosts:
            variables.set_host_facts(name, FACTS)
        self._variables = variables.get_vars(host=inventories.get_host(host))
        self._variables |= {"playbook_dir": str(ANSIBLE), "ansible_play_hosts_all": [host]}
        self._variables["hostvars"] = HostVars(inventories, variables, self._loader)
        self._variables |= overrides

    def role(self, name: str) -> Templar:
        """A templar with the role's defaults and variables below and above the inventory's."""
        role = ANSIBLE / "roles" / name
        variables = dict(self._file(role / "defaults" / "main.yml"))
        variables |= self._variables
        variables |= self._file(role / "vars" / "main.yml")
        variables |= {"role_path": str(role)}
        self._loader.set_basedir(str(role))
        return Templar(loader=self._loader, variables=variables)

    def value(self, role: str, expression: str) -> Any:
        """The value of an expression within a role."""
        return self.role(role).template(trust_as_template("{{ " + expression + " }}"))

    def text(self, role: str, template: Path) -> str:
        """A template file rendered within a role."""
        return str(self.value(role, f"lookup('ansible.builtin.template', '{template}')"))

    def _file(self, path: Path) -> dict[str, Any]:
        return dict(self._loader.load_from_file(str(path), trusted_as_template=True) or {}) if path.exists() else {}
