"""Write the configuration reference from the files that define the variables: `make docs`.

docs/configuration.md is generated as a whole; in drumline/README.md the table of settings is. A variable without a
description is an error, so that the reference is complete by construction.
"""

from __future__ import annotations

import ast
import json
import re
import sys
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

from tests.support.rendering import HOST, Playbooks

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SHARED = PROJECT / "ansible" / "group_vars" / "all"
ROLES = PROJECT / "ansible" / "roles"
VAULT = PROJECT / "ansible" / "inventories" / "production" / "group_vars" / "production" / "vault.yml.example"
SETTINGS = PROJECT / "drumline" / "src" / "drumline" / "conf.py"
REFERENCE = PROJECT / "docs" / "configuration.md"
PACKAGE_README = PROJECT / "drumline" / "README.md"

# In this order, since a bool is an int.
TYPES = {bool: "bool", dict: "dict", float: "float", int: "int", list: "list", str: "str"}

INTRODUCTION = """\
# Configuration reference

<!-- Written by `make docs` from the files that define the variables. Change it there. -->

| to set | write it in |
|---|---|
| a variable for the whole fleet | `ansible/inventories/<inventory>/group_vars/<inventory>/main.yml` |
| a secret (`vault_…`) | `vault.yml` beside it, encrypted with `ansible-vault` |
| a variable of one host | `ansible/inventories/<inventory>/host_vars/<host>.yml` |
| a `DRUMLINE_…` setting | your Django settings |

Do not use `group_vars/all` of an inventory: Ansible prefers `ansible/group_vars/all`, which holds the defaults, and says
nothing. A dict is replaced as a whole, so copy all of its keys.

A role variable whose default reads *from …* is derived in [`wiring.yml`](../ansible/group_vars/all/wiring.yml): set the
variables named there instead. A wrong type or choice stops the playbook before it changes a host.
"""


class UndescribedError(Exception):
    """A variable that no sentence describes."""


@dataclass(frozen=True, slots=True)
class Variable:
    """One row of the reference."""

    name: str
    kind: str
    default: str
    description: str
    parts: tuple[Variable, ...] = field(default=())


def kind_of(value: object) -> str:
    """Return the type of a value by its name in an argument specification."""
    return next(name for kind, name in TYPES.items() if isinstance(value, kind))


def as_text(value: object) -> str:
    """Return a default as a person would write it in YAML."""
    if isinstance(value, str):
        return " ".join(value.split()) if value else '""'
    return json.dumps(value, ensure_ascii=False)


def described_in_comments(path: Path, prefix: str = "") -> list[tuple[str, str, tuple[tuple[str, str], ...]]]:
    """Return name, description and documented keys of a file's public variables, from the comment above each.

    A comment line that is indented further, `#   key   meaning`, documents a key of a dict.
    """
    found = []
    comment: list[str] = []
    for line in path.read_text().splitlines():
        if line.startswith("#"):
            comment.append(line.removeprefix("#").removeprefix(" "))
        elif match := re.match(r"([a-z]\w*):", line):
            words: list[str] = []
            parts: list[tuple[str, str]] = []
            for said in comment:
                if part := re.fullmatch(r" {2}(\w+) {2,}(.+)", said):
                    parts.append((part[1], part[2]))
                elif said.startswith("    ") and parts:
                    parts[-1] = (parts[-1][0], f"{parts[-1][1]} {said.strip()}")
                else:
                    words.append(said.strip())
            if not match[1].startswith(prefix):
                comment = []
                continue
            if not words:
                raise UndescribedError(f"{match[1]} in {path.relative_to(PROJECT)} has no comment above it")
            found.append((match[1], " ".join(words), tuple(parts)))
            comment = []
        else:
            comment = []
    return found


@cache
def wired() -> dict[str, str]:
    """Return the expression of each variable that wiring.yml sets."""
    return {name: str(value) for name, value in yaml.safe_load((SHARED / "wiring.yml").read_text()).items()}


def origin(expression: str, wiring: dict[str, str]) -> str:
    """Return what the wiring derives a variable from: other variables, the inventory's groups, or a literal."""
    variables, uses_groups = sources(expression, wiring)
    if variables:
        return "*from* " + ", ".join(f"`{variable}`" for variable in variables)
    return "*from* the host's groups" if uses_groups else code(as_text(expression))


@cache
def public() -> frozenset[str]:
    """Return the names that the files of group_vars/all define."""
    return frozenset(name for path in SHARED.glob("*.yml") for name in yaml.safe_load(path.read_text()))


def sources(expression: str, wiring: dict[str, str]) -> tuple[list[str], bool]:
    """Return the public variables in an expression, through private ones of the wiring, and whether it reads groups."""
    found: dict[str, None] = {}
    uses_groups = False
    # A name behind a dot or a quote is an attribute or a key.
    for name in re.findall(r"(?<![\w.'])[a-z_]\w+", expression):
        uses_groups = uses_groups or name in {"groups", "group_names"}
        if name.startswith("__") and name in wiring:
            inner, inner_groups = sources(wiring[name], wiring)
            found |= dict.fromkeys(inner)
            uses_groups = uses_groups or inner_groups
        elif name.startswith("vault_") or name in public():
            found[name] = None
    return list(found), uses_groups


def shared(name: str, prefix: str = "") -> list[Variable]:
    """Return the variables that a file of group_vars/all defines for people."""
    path = SHARED / f"{name}.yml"
    values: dict[str, Any] = yaml.safe_load(path.read_text())
    passed_on = {text[3:-3]: role for role, text in wired().items() if re.fullmatch(r"{{ \w+ }}", text)}
    arguments = {option: spec for role in roles() for option, spec in options(role).items()}
    playbooks = Playbooks(ansible_play_hosts=[HOST])
    variables = []
    for variable, description, parts in described_in_comments(path, prefix):
        value = values[variable]
        kind = kind_of(value)
        if (role := passed_on.get(variable)) in arguments:
            kind = arguments[role]["type"]
        elif "{{" in str(value):
            kind = kind_of(playbooks.value("preflight", variable))
        default = "" if parts else code(as_text(value))
        variables.append(Variable(variable, kind, default, description, tuple(keys(value, parts))))
    return variables


def keys(values: dict[str, Any], described: tuple[tuple[str, str], ...]) -> Iterator[Variable]:
    """Return the keys of a dict, or of the dicts in it, with their descriptions and defaults."""
    for key, meaning in described:
        if key in values:
            yield Variable(key, kind_of(values[key]), code(as_text(values[key])), sentence(meaning))
        else:
            given = {name: each[key] for name, each in values.items() if key in each}
            # What few give, or at length, is read where it is given.
            short = len(given) == len(values) and all("{" not in str(value) for value in given.values())
            default = code(", ".join(f"{name}: {as_text(value)}" for name, value in given.items())) if short else ""
            kind = next(
                (kind_of(value) for value in given.values() if not (isinstance(value, str) and "{{" in value)),
                meant(meaning),
            )
            yield Variable(f"<name>.{key}", kind, default, sentence(meaning))


def meant(meaning: str) -> str:
    """Return the type of what no default shows, by how its description begins."""
    if meaning.startswith("["):
        return "list"
    return (
        "int" if meaning.startswith(("seconds", "memory", "PostgreSQL connections", "further connections")) else "str"
    )


def roles() -> list[Path]:
    """Return the roles that take arguments."""
    return sorted(path.parent.parent for path in ROLES.glob("*/meta/argument_specs.yml"))


def specification(role: Path) -> dict[str, Any]:
    """Return the specification of a role's arguments."""
    specs: dict[str, Any] = yaml.safe_load((role / "meta" / "argument_specs.yml").read_text())["argument_specs"]["main"]
    return specs


@cache
def options(role: Path) -> dict[str, Any]:
    """Return the arguments of a role."""
    found: dict[str, Any] = specification(role)["options"]
    return found


def arguments_of(role: Path) -> list[Variable]:
    """Return the variables of a role, each with its default or what the wiring gives it."""
    wiring = wired()
    variables = []
    for name, option in options(role).items():
        if not option.get("description"):
            raise UndescribedError(f"{name} of the role {role.name} has no description")
        kind = option["type"] + (f" of {option['elements']}" if "elements" in option else "")
        description = option["description"]
        if choices := option.get("choices"):
            description += " One of " + ", ".join(f"`{choice}`" for choice in choices) + "."
        if name in wiring:
            default = origin(wiring[name], wiring)
        else:
            default = "*required*" if option.get("required") else code(as_text(option["default"]))
        parts = tuple(
            Variable(
                part,
                spec["type"],
                "*required*" if spec.get("required") else code(as_text(spec.get("default"))),
                spec["description"],
            )
            for part, spec in option.get("options", {}).items()
        )
        variables.append(Variable(name, kind, default, description, parts))
    return variables


def secrets() -> list[Variable]:
    """Return the secrets that an inventory's vault holds."""
    return [Variable(name, "str", "", description) for name, description, _ in described_in_comments(VAULT)]


def settings() -> list[Variable]:
    """Return the package's own settings, from the functions that read them."""
    variables = []
    for function in ast.parse(SETTINGS.read_text()).body:
        if not isinstance(function, ast.FunctionDef):
            continue
        for call in ast.walk(function):
            match call:
                # Others are Django's own, such as TASKS.
                case ast.Call(
                    func=ast.Name("getattr"), args=[ast.Name("settings"), ast.Constant(str(name)), default]
                ) if name.startswith("DRUMLINE_"):
                    description = ast.get_docstring(function) or ""
                    if not description:
                        raise UndescribedError(f"{name} in {SETTINGS.relative_to(PROJECT)} has no docstring")
                    description = re.sub(r"^Return (?:the )?", "", " ".join(description.split()))
                    kind = ast.unparse(function.returns) if function.returns else ""
                    variables.append(
                        Variable(name, kind, code(ast.unparse(default)), description[0].upper() + description[1:])
                    )
    return variables


def sentence(text: str) -> str:
    """Return a phrase as a sentence of its own."""
    return f"{text[0].upper()}{text[1:]}."


def code(text: str) -> str:
    """Return text as code within a table."""
    return f"`{text}`".replace("|", "\\|")


def rows(variables: Iterable[Variable]) -> list[str]:
    """Return the rows of a table, a dict's keys below their dict."""
    lines = []
    for variable in variables:
        lines.append(f"| `{variable.name}` | {code(variable.kind)} | {variable.default} | {variable.description} |")
        lines += rows([replace(part, name=f"{variable.name}.{part.name}") for part in variable.parts])
    return lines


def table(variables: list[Variable]) -> str:
    """Return a table of variables."""
    return "\n".join(["| variable | type | default | meaning |", "|---|---|---|---|", *rows(variables)])


def short_table(variables: list[Variable]) -> str:
    """Return a table of what has no type or default to show."""
    return "\n".join(
        ["| variable | meaning |", "|---|---|", *(f"| `{each.name}` | {each.description} |" for each in variables)]
    )


def settings_table() -> str:
    """Return the table of the package's settings."""
    return table(settings()).replace("| variable |", "| setting |", 1)


def reference() -> str:
    """Return the whole of docs/configuration.md."""
    parts = [
        INTRODUCTION,
        "## Your project\n\nThe contract: which project is deployed, and how. "
        "[`contract.yml`](../ansible/group_vars/all/contract.yml)\n\n" + table(shared("contract")) + "\n",
        "## Processes and queues\n\nHow many processes run, and their limits. "
        "[`processes.yml`](../ansible/group_vars/all/processes.yml)\n\n" + table(shared("processes")) + "\n",
        "## Secrets\n\nNone has a default. Only those that are marked optional may be left out.\n\n"
        + short_table(secrets())
        + "\n",
        "## The fleet\n\nWhat the roles know about the hosts. Rarely set by hand.\n\n"
        + table(shared("wiring", "fleet_"))
        + "\n",
        "## The package\n\nDjango settings of [`drumline`](../drumline/README.md), read at run time.\n\n"
        + settings_table()
        + "\n",
        "## Roles\n",
    ]
    parts += [
        f"### {role.name}\n\n{specification(role)['short_description']}.\n\n{table(arguments_of(role))}\n"
        for role in roles()
    ]
    return "\n".join(parts)


def package_readme() -> str:
    """Return drumline/README.md with its table of settings brought up to date."""
    text = PACKAGE_README.read_text()
    start, end = "<!-- settings, written by `make docs` -->\n", "<!-- end of settings -->\n"
    before, rest = text.split(start)
    return before + start + settings_table() + "\n" + end + rest.split(end)[1]


def main() -> None:
    """Write both files."""
    REFERENCE.write_text(reference())
    PACKAGE_README.write_text(package_readme())


if __name__ == "__main__":
    try:
        main()
    except UndescribedError as error:
        sys.exit(f"{error}. Describe it there, then run make docs again.")
