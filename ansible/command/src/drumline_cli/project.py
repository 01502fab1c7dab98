"""A project that is deployed: its checkout, its folder deploy/ and one inventory of it."""

from __future__ import annotations

import difflib
import os
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

import yaml

from drumline_cli.errors import Failure, shown

FOLDER = "deploy"
LOCAL = "local"
PASSWORD_FILE = ".vault-password"  # noqa: S105 - its name, not what it holds


@dataclass(frozen=True, slots=True)
class Project:
    """The checkout of a project and the inventory that a verb is about. `hosts` is the inventory's file."""

    checkout: Path
    hosts: Path

    @property
    def inventory(self) -> str:
        """The inventory's name."""
        return self.hosts.parent.name if self.hosts.name == "hosts.yml" else self.hosts.stem

    @property
    def deploy(self) -> Path:
        """The folder of the inventory, where group_vars/ lies."""
        return self.hosts.parent

    @property
    def password_file(self) -> Path:
        """Where the vault's password is kept, if it is kept."""
        return self.deploy / PASSWORD_FILE

    def vault_arguments(self) -> list[str]:
        """Return what lets ansible-playbook open the vault."""
        if not self.password_file.exists():
            encrypted = any(is_encrypted(path) for path in self.deploy.glob("group_vars/*/*.yml"))
            asks = encrypted and not os.environ.get("ANSIBLE_VAULT_PASSWORD_FILE")
            return ["--ask-vault-pass"] if asks else []
        # ssh's own rule for a private key.
        if stat.S_IMODE(self.password_file.stat().st_mode) & 0o077:
            raise Failure(
                "Others may read the vault's password.",
                where=self.password_file,
                fix=f"chmod 600 {shown(self.password_file)}",
            )
        return ["--vault-password-file", str(self.password_file)]


def is_encrypted(path: Path) -> bool:
    """Return whether a file is encrypted with ansible-vault."""
    try:
        with path.open("rb") as file:
            return file.read(14) == b"$ANSIBLE_VAULT"
    except OSError:
        return False


def find_checkout(start: Path) -> Path:
    """Return the checkout that a folder belongs to: the nearest one above it with deploy/, else git's, else itself."""
    if not start.is_dir():
        raise Failure("There is no such folder.", where=start, fix="Name the project's checkout: --project FOLDER")
    start = start.resolve()
    for folder in (start, *start.parents):
        if (folder / FOLDER).is_dir() and inventories(folder):
            return folder
    for folder in (start, *start.parents):
        if (folder / ".git").exists():
            return folder
    return start


def inventories(checkout: Path) -> dict[str, Path]:
    """Return the inventories of deploy/ by their names. The folder may hold files of other tools, too."""
    return {path.stem: path for path in sorted((checkout / FOLDER).glob("*.yml")) if _is_inventory(path)}


def _is_inventory(path: Path) -> bool:
    text = path.read_text(errors="replace")
    try:
        documents = list(yaml.safe_load_all(text))
    except yaml.YAMLError:
        # A slip in one of ours, which the user should read about.
        return "children:" in text
    content = documents[0] if len(documents) == 1 else None
    if not isinstance(content, dict):
        return False
    groups = [value for value in content.values() if value is not None]
    return not groups or any(isinstance(group, dict) and {"children", "hosts"} & set(group) for group in groups)


def find(start: Path, inventory: str = "") -> Project:
    """Return the project of a folder with the inventory of that name or path; without one, the only one."""
    checkout = find_checkout(start)
    named = Path(inventory)
    if inventory and (named.suffix in {".yml", ".yaml"} or named.is_dir()):
        path = named / "hosts.yml" if named.is_dir() else named
        if not path.is_file():
            raise Failure("There is no such inventory.", where=path, fix="Name a file of hosts: --inventory FILE")
        return Project(checkout, path.resolve())
    known = inventories(checkout)
    if not known:
        raise Failure(
            "This project has no deploy/ yet.",
            where=checkout,
            fix="drumline init"
            if (start / "manage.py").exists() or (checkout / ".git").exists()
            else "cd PROJECT && drumline init",
        )
    if inventory:
        if inventory not in known:
            near = difflib.get_close_matches(inventory, known, n=1)
            names = ", ".join(known)
            raise Failure(
                f"There is no inventory {inventory}. There {'is' if len(known) == 1 else 'are'}: {names}.",
                where=checkout / FOLDER / f"{inventory}.yml",
                fix=f"--inventory {near[0] if near else next(iter(known))}",
            )
        return Project(checkout, known[inventory])
    served = [name for name in known if name != LOCAL] or list(known)
    if len(served) > 1:
        raise Failure(
            f"Which inventory? There are {', '.join(served)}.",
            where=checkout / FOLDER,
            fix=f"--inventory {served[0]}",
        )
    return Project(checkout, known[served[0]])


def commit_of(checkout: Path, ref: str) -> str:
    """Return the commit that a name of the project's history stands for."""
    if not (checkout / ".git").exists():
        raise Failure(
            f"{ref} names a commit, but this is not a git checkout.",
            where=checkout,
            fix="Deploy the files as they are: drumline deploy",
        )
    done = git(checkout, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
    if done.returncode == 0:
        return done.stdout.strip()
    names = git(checkout, "for-each-ref", "--format=%(refname:short)", "refs/heads", "refs/tags").stdout.split()
    near = difflib.get_close_matches(ref, names, n=1)
    raise Failure(
        f"This checkout has no commit, tag or branch {ref}.",
        where=checkout,
        fix=f"drumline deploy {near[0]}" if near else f"git -C {shown(checkout)} fetch --tags, or correct the name",
    )


def git(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run git in a checkout."""
    try:
        return subprocess.run(["git", "-C", str(checkout), *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise Failure("git is not installed on this machine.", fix="apt-get install git") from None


@dataclass(slots=True)
class Asked:
    """What every verb is told: the project's folder, the inventory, and whether to show only."""

    folder: Path
    inventory: str
    show: bool

    def project(self) -> Project:
        """Return the project, or say why there is none."""
        return find(self.folder, self.inventory)
