"""Secrets: generated, kept encrypted with ansible-vault, never on disk or in a process list in the clear."""

from __future__ import annotations

import os
import re
import secrets
import string
from typing import TYPE_CHECKING

import yaml

from drumline_cli.errors import Failure, shown

if TYPE_CHECKING:
    from pathlib import Path

# What init generates. The others are somebody else's, such as the mail server's.
GENERATED = {
    "vault_django_secret_key": ("Django's SECRET_KEY.", 64),
    "vault_postgresql_password": ("Password of the application's PostgreSQL login.", 32),
    "vault_redis_app_password": ("Password of the application's Redis user.", 32),
    "vault_redis_flower_password": ("Password of Flower's Redis user.", 32),
    "vault_flower_password": ("Password of the user flower, where app_flower.login is password.", 32),
    "vault_admin_password": ("Password of the first administrator, app_admin_email.", 24),
}
GIVEN = {"vault_email_password": "Password for the SMTP server of app_email; empty does not log in."}
# Their previous value is accepted until every process runs with the new one.
ROTATED = [
    "vault_django_secret_key",
    "vault_postgresql_password",
    "vault_redis_app_password",
    "vault_redis_flower_password",
]
_ALPHABET = string.ascii_letters + string.digits


def is_secret(name: str) -> bool:
    """Return whether a variable of the environment holds a secret, by its name."""
    return re.search(r"KEY|SECRET|TOKEN|PASS|DSN|CREDENTIAL", name) is not None


def generate(name: str) -> str:
    """Return a new value for a secret that is ours to choose."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(GENERATED[name][1]))


def new_password() -> str:
    """Return a password for the vault itself."""
    return secrets.token_urlsafe(32)


def new_vault(others: list[str]) -> str:
    """Return the text of a vault with new secrets, and a place for others, which somebody else gives."""
    lines = ["---", "# Change it with: drumline secrets edit"]
    for name, (meaning, _) in GENERATED.items():
        lines += ["", f"# {meaning}", f"{name}: {generate(name)}"]
    for name, meaning in GIVEN.items():
        lines += ["", f"# {meaning}", f'{name}: ""']
    if others:
        lines += [
            "",
            "# What app_secrets names; those that are null must be set.",
            *(f"{name}: null" for name in others),
        ]
    return "\n".join(lines) + "\n"


def encrypt(text: str, password: str) -> str:
    """Return a text as ansible-vault keeps it."""
    library, secret = _library(password)
    return bytes(library.encrypt(text, secret)).decode()


def decrypt(path: Path, password: str) -> str:
    """Return the text of an encrypted file."""
    from ansible.errors import AnsibleError

    library, _ = _library(password)
    try:
        return bytes(library.decrypt(path.read_bytes())).decode()
    except AnsibleError:
        raise Failure(
            "The password does not open this vault.",
            where=path,
            fix=f"Put the right one into {shown(path.parents[2] / '.vault-password')}",
        ) from None


def _library(password: str):  # type: ignore[no-untyped-def]  # noqa: ANN202 - Ansible ships no types
    from ansible.parsing.vault import VaultLib, VaultSecret

    secret = VaultSecret(password.encode())
    return VaultLib([("default", secret)]), secret


def names(text: str) -> dict[str, object]:
    """Return the secrets of a decrypted vault."""
    found = yaml.safe_load(text) or {}
    return found if isinstance(found, dict) else {}


def rotated(text: str, chosen: list[str]) -> str:
    """Return a vault's text with new values for these secrets, everything else untouched."""
    for name in chosen:
        line = f"{name}: {generate(name)}"
        text, count = re.subn(rf"(?m)^{name}:.*$", line, text)
        if not count:
            text += f"\n# {GENERATED[name][0]}\n{line}\n"
    return text


def replace(path: Path, text: str, mode: int) -> None:
    """Write a file as a whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    partial.replace(path)
