"""What Ansible's variables are for a host, and which file says so. It asks Ansible itself, which is imported late."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from drumline_cli import bundle
from drumline_cli.errors import Failure
from drumline_cli.project import PASSWORD_FILE, Project

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HIDDEN = "********"


@dataclass(frozen=True, slots=True)
class Host:
    """A host of the inventory, and how ssh reaches it."""

    name: str
    groups: tuple[str, ...]
    address: str
    port: int | None
    user: str
    key: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Layer:
    """One file that gives a variable, with the text that it gives. The last one counts."""

    path: Path
    line: int
    text: Any


class Variables:
    """The variables of an inventory as the playbooks see them, without facts, which only a host tells."""

    def __init__(self, project: Project) -> None:
        os.environ["ANSIBLE_CONFIG"] = str(bundle.ansible() / "ansible.cfg")
        # Ansible's libraries report through its own display, which belongs to its programs.
        os.environ.setdefault("ANSIBLE_DEPRECATION_WARNINGS", "false")
        from ansible.errors import AnsibleError
        from ansible.inventory.manager import InventoryManager
        from ansible.parsing.dataloader import DataLoader
        from ansible.plugins.loader import init_plugin_loader
        from ansible.utils.collection_loader import AnsibleCollectionConfig
        from ansible.vars.manager import VariableManager

        from ansible import constants

        self.project = project
        self._error = AnsibleError
        check_yaml(project)
        if AnsibleCollectionConfig.collection_finder is None:
            init_plugin_loader([])
        self._loader = DataLoader()
        self._loader.set_basedir(str(bundle.ansible()))
        self._loader.set_vault_secrets(self._secrets(constants))
        with self._failures():
            self._inventory = InventoryManager(loader=self._loader, sources=[str(project.hosts)])
            self._manager = VariableManager(loader=self._loader, inventory=self._inventory)
        if not self._inventory.hosts:
            raise Failure(
                "The inventory names no host.",
                where=project.hosts,
                fix="Write one below each group: web: {hosts: {app1.example.com: }}",
            )

    def _secrets(self, constants: Any) -> list[Any]:
        from ansible.cli import CLI
        from ansible.parsing.vault import VaultSecretsContext

        asks = self.project.vault_arguments() == ["--ask-vault-pass"]
        return list(
            CLI.setup_vault_secrets(
                self._loader,
                vault_ids=constants.DEFAULT_VAULT_IDENTITY_LIST,
                vault_password_files=[str(self.project.password_file)] if self.project.password_file.exists() else [],
                auto_prompt=asks and sys.stdin.isatty(),
                # Ansible has one for a whole process.
                initialize_context=VaultSecretsContext.current(optional=True) is None,
            )
        )

    def _failures(self) -> Any:
        return _AsFailure(self._error, self.project)

    def hosts(self, *groups: str) -> list[Host]:
        """Return the hosts of any of these groups, all without one, each once."""
        found = []
        for host in self._inventory.get_hosts(":".join(groups) if groups else "all"):
            values = self.values(host.name)
            port = values("ansible_port") or None
            found.append(
                Host(
                    name=host.name,
                    groups=tuple(sorted(group.name for group in host.get_groups() if group.name != "all")),
                    address=str(values("ansible_host") or host.name),
                    port=int(port) if port else None,
                    user=str(values("ansible_user") or ""),
                    key=str(values("ansible_private_key_file") or ""),
                    arguments=f"{values('ansible_ssh_common_args') or ''} {values('ansible_ssh_extra_args') or ''}".strip(),
                )
            )
        return found

    def values(self, name: str, *, hide: bool = False) -> Values:
        """Return the variables of a host; `hide` puts asterisks in the place of secrets."""
        with self._failures():
            host = self._inventory.get_host(name)
            if host is None:
                names = ", ".join(self._inventory.hosts)
                raise Failure(
                    f"There is no host {name}. There are: {names}.", where=self.project.hosts, fix="Name one of them."
                )
            variables = self._manager.get_vars(host=host)
            from ansible.vars.hostvars import HostVars

            variables |= {"playbook_dir": str(bundle.ansible()), "ansible_play_hosts_all": list(self._inventory.hosts)}
            variables["hostvars"] = HostVars(self._inventory, self._manager, self._loader)
            if hide:
                variables |= {key: HIDDEN for key in variables if key.startswith("vault_") and variables[key]}
            return Values(self._loader, variables, self.project, self._error)

    def layers(self, host: Host, variable: str) -> list[Layer]:
        """Return the files that give a variable for a host, in the order of their precedence."""
        found = []
        for path in self._files(host):
            # An encrypted file gives secrets; its lines are nobody's business.
            try:
                with self._failures():
                    content = self._loader.load_from_file(str(path), cache="none") or {}
            except Failure:
                continue
            if isinstance(content, dict) and variable in content:
                found.append(Layer(path, _line_of(path, variable), content[variable]))
        return found

    def _files(self, host: Host) -> Iterator[Path]:
        yield from sorted(bundle.ansible().glob("roles/*/defaults/main.yml"))
        yield from sorted((bundle.ansible() / "group_vars" / "all").glob("*.yml"))
        groups = sorted(
            self._inventory.get_host(host.name).get_groups(),
            key=lambda group: (group.depth, group.priority, group.name),
        )
        for group in groups:
            base = self.project.deploy / "group_vars" / str(group.name)
            yield from (path for path in (base.with_suffix(".yml"),) if path.is_file())
            yield from sorted(base.glob("*.yml"))
        base = self.project.deploy / "host_vars" / host.name
        yield from (path for path in (base.parent / f"{host.name}.yml",) if path.is_file())
        yield from sorted(base.glob("*.yml"))

    def known(self) -> set[str]:
        """Return every variable that the playbooks know."""
        from ansible.plugins.loader import lookup_loader

        return set(lookup_loader.get("known_variables").run([]))


class Values:
    """The variables of one host. Called with a name, it gives the value; None if there is none."""

    def __init__(self, loader: Any, variables: dict[str, Any], project: Project, error: type[Exception]) -> None:
        from ansible.template import Templar

        self.raw = variables
        self._templar = Templar(loader=loader, variables=variables)
        self._error = error
        self._project = project

    def __contains__(self, name: str) -> bool:
        return name in self.raw

    def __call__(self, name: str) -> Any:
        """Return a variable's value."""
        if name not in self.raw:
            return None
        # Ansible warns on its way to what it then raises.
        with _AsFailure(self._error, self._project), contextlib.redirect_stderr(io.StringIO()):
            return self._templar.template(self.raw[name])


class _AsFailure:
    """Makes Ansible's errors ours."""

    def __init__(self, error: type[Exception], project: Project) -> None:
        self._error = error
        self._project = project

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        if not isinstance(error, self._error):
            return
        text = str(error).strip()
        if "vault" in text.lower() and (
            "decrypt" in text.lower() or "secret" in text.lower() or "password" in text.lower()
        ):
            raise Failure(
                "The vault cannot be opened: " + text.splitlines()[0].rstrip(".") + ".",
                where=next(iter(sorted(self._project.deploy.glob("group_vars/*/vault.yml"))), self._project.deploy),
                fix=f"Put its password into {self._project.deploy.name}/{PASSWORD_FILE} (chmod 600), "
                "or name a file: export ANSIBLE_VAULT_PASSWORD_FILE=…",
            ) from None
        raise Failure(
            text.splitlines()[0], where=self._project.hosts, fix="Correct the file that the message names."
        ) from None


def check_yaml(project: Project) -> None:
    """Refuse files of the inventory that are not YAML, by their line."""
    for path in [
        project.hosts,
        *sorted(project.deploy.glob("group_vars/*/*.yml")),
        *sorted(project.deploy.glob("host_vars/**/*.yml")),
    ]:
        try:
            text = path.read_text()
        except OSError as error:
            raise Failure(f"It cannot be read: {error.strerror}.", where=path, fix=f"ls -l {path}") from None
        except UnicodeDecodeError:
            raise Failure("It is not UTF-8.", where=path, fix="Save it as UTF-8.") from None
        if text.startswith("$ANSIBLE_VAULT"):
            continue
        try:
            content = yaml.load(text, Loader=_Lenient)  # noqa: S506 - a subclass of the safe loader
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            problem = getattr(error, "problem", None) or "not valid YAML"
            raise Failure(
                f"Not valid YAML: {problem}.",
                where=f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else path,
                fix="Correct the line; a value that begins with {{ must be quoted.",
            ) from None
        if content is not None and not isinstance(content, dict):
            raise Failure(
                "It must hold names with values, one a line: name: value.", where=path, fix="Correct the file."
            )


class _Lenient(yaml.SafeLoader):
    """Reads Ansible's own tags as text."""


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the variables of a file, with Ansible's own tags as text."""
    content = yaml.load(path.read_text(), Loader=_Lenient)  # noqa: S506 - a subclass of the safe loader
    return content if isinstance(content, dict) else {}


def _as_text(_: yaml.SafeLoader, node: yaml.Node) -> Any:
    return node.value if isinstance(node, yaml.ScalarNode) else None


_Lenient.add_constructor("!vault", _as_text)
_Lenient.add_constructor("!unsafe", _as_text)


def _line_of(path: Path, variable: str) -> int:
    for number, text in enumerate(path.read_text(errors="replace").splitlines(), start=1):
        if text.startswith(f"{variable}:"):
            return number
    return 0
