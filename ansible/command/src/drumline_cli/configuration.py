"""What variables resolve to and where they come from; the vault."""

from __future__ import annotations

import difflib
import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import yaml

from drumline_cli import bundle, playbook, vault
from drumline_cli.errors import Exit, Failure, color, shown
from drumline_cli.project import Project, is_encrypted
from drumline_cli.variables import HIDDEN, Layer, Variables, read_yaml

if TYPE_CHECKING:
    from drumline_cli.project import Asked

_SHARED = ("contract", "processes", "wiring")


def documented() -> list[str]:
    """Return the names of the variables that docs/configuration.md lists first."""
    return [
        name
        for file in _SHARED
        for name in yaml.safe_load((bundle.ansible() / "group_vars" / "all" / f"{file}.yml").read_text())
        if not name.startswith("__")
    ]


def show(asked: Asked, variable: str, host: str, *, json_: bool) -> None:
    """Print one variable with its origin, or all that the project sets."""
    found = asked.project()
    if asked.show:
        program = str(bundle.program("ansible-inventory"))
        line = [
            program,
            "--inventory",
            str(found.hosts),
            *found.vault_arguments(),
            "--playbook-dir",
            str(bundle.ansible()),
            "--list",
        ]
        click.echo(playbook.as_text(line, playbook.environment()))
        return
    variables = Variables(found)
    hosts = variables.hosts()
    chosen = next((each for each in hosts if each.name == host), None) if host else hosts[0]
    if chosen is None:
        raise Failure(
            f"The inventory has no host {host}. It has {', '.join(each.name for each in hosts)}.",
            where=found.hosts,
            fix=f"--host {hosts[0].name}",
            code=Exit.USAGE,
        )
    values = variables.values(chosen.name, hide=True)
    names = [variable] if variable else _set_by(found)
    report = []
    for name in names:
        if name not in values and name not in variables.known():
            near = difflib.get_close_matches(name, [*values.raw, *variables.known()], n=1)
            raise Failure(
                f"There is no variable {name}.",
                fix=f"drumline config {near[0]}" if near else "drumline config   lists those of this project",
                code=Exit.USAGE,
            )
        layers = variables.layers(chosen, name)
        report.append({"name": name, **_resolved(name, values), "from": [_layer(layer) for layer in layers]})
    if json_:
        click.echo(json.dumps(report[0] if variable else report, indent=2, default=str))
        return
    for entry in report:
        _print(entry, in_full=bool(variable))


def _resolved(name: str, values: Any) -> dict[str, Any]:
    if name.startswith("vault_"):
        return {"value": HIDDEN}
    try:
        return {"value": values(name)}
    except Failure as failure:
        # Mostly facts, which only a run on the host knows.
        return {
            "value": None,
            "expression": str(values.raw[name]).strip(),
            "note": f"known on the host: {failure.message}",
        }


def _layer(layer: Layer) -> dict[str, Any]:
    return {"file": str(layer.path), "line": layer.line}


def _print(entry: dict[str, Any], *, in_full: bool) -> None:
    value = entry["value"] if entry["value"] is not None else entry.get("expression", entry["value"])
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    if in_full and isinstance(value, (dict, list)) and value:
        text = "\n" + "\n".join(
            f"  {line}"
            for line in yaml.safe_dump(json.loads(json.dumps(value, default=str)), sort_keys=False).splitlines()
        )
    origin = entry["from"]
    place = _place(origin[-1]) if origin else "the role's own default"
    click.echo(f"{click.style(entry['name'], bold=True)}: {text}", color=color())
    click.echo(
        click.style(f"  from {place}" + (f" ({entry['note']})" if "note" in entry else ""), dim=True), color=color()
    )
    if in_full:
        for layer in reversed(origin[:-1]):
            click.echo(click.style(f"  over {_place(layer)}", dim=True), color=color())


def _place(layer: dict[str, Any]) -> str:
    path = Path(layer["file"])
    text = str(path.relative_to(bundle.root())) if path.is_relative_to(bundle.root()) else shown(path)
    return f"{text}:{layer['line']}" if layer["line"] else text


def _set_by(found: Project) -> list[str]:
    names: dict[str, None] = {}
    for path in sorted(found.deploy.glob("group_vars/*/*.yml")):
        if path.parent.name in {"project", found.inventory} and not is_encrypted(path):
            names |= dict.fromkeys(read_yaml(path))
    return [name for name in names if not name.startswith("ansible_")]


def _vault(found: Project) -> Path:
    path = found.deploy / "group_vars" / found.inventory / "vault.yml"
    if not path.exists():
        raise Failure(
            f"The inventory {found.inventory} has no vault.",
            where=path,
            fix="drumline init   writes one with a new deploy/"
            if found.inventory != "local"
            else "The test host's secrets are generated: deploy/.local/secrets",
        )
    return path


def edit(asked: Asked) -> None:
    """Open the vault in the editor."""
    found = asked.project()
    path = _vault(found)
    line = [str(bundle.program("ansible-vault")), "edit", *found.vault_arguments(), str(path)]
    if asked.show:
        click.echo(playbook.as_text(line))
        return
    if playbook.call(line):
        raise Failure("The vault was not changed; the reason stands above.", where=path, code=Exit.FAILED)


def rotate(asked: Asked, names: list[str], *, yes: bool) -> None:
    """Give generated secrets new values."""
    found = asked.project()
    path = _vault(found)
    for name in names:
        if name not in vault.GENERATED:
            near = difflib.get_close_matches(name, vault.GENERATED, n=1)
            raise Failure(
                f"{name} is not a secret that Drumline generates. Those are {', '.join(vault.GENERATED)}.",
                where=path,
                fix=f"drumline secrets rotate {near[0]}" if near else "drumline secrets edit",
                code=Exit.USAGE,
            )
    if "vault_admin_password" in names:
        raise Failure(
            "A deploy gives the first administrator this password once, and never changes that of an account.",
            where=path,
            fix="drumline manage changepassword ADDRESS",
            code=Exit.USAGE,
        )
    chosen = names or vault.ROTATED
    if asked.show:
        click.echo(f"# new values for {', '.join(chosen)} in {shown(path)}, then:")
        click.echo(playbook.as_text(playbook.line(found, ["site"]), playbook.environment()))
        return
    if not found.password_file.exists():
        raise Failure(
            "The vault's password is not on this machine.",
            where=found.password_file,
            fix=f"Write it there and chmod 600 {shown(found.password_file)}, or change the vault by hand: drumline secrets edit",
        )
    found.vault_arguments()
    password = found.password_file.read_text().strip()
    text = vault.decrypt(path, password) if is_encrypted(path) else path.read_text()
    if not yes:
        click.confirm(f"Replace {', '.join(chosen)} in {shown(path)}?", abort=True, err=True)
    vault.replace(path, vault.encrypt(vault.rotated(text, chosen), password), 0o600)
    click.echo(f"replaced: {', '.join(chosen)}")
    click.echo("Now bring them to the hosts: drumline setup")


def tracked_by_git(checkout: Path, path: Path) -> bool:
    """Return whether git would commit a file, or has."""
    done = subprocess.run(
        ["git", "-C", str(checkout), "check-ignore", "--quiet", "--", str(path)], capture_output=True, check=False
    )
    return done.returncode == 1
