"""Write the reference of the command from its help texts: `make docs`."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import click

from drumline_cli.cli import Verbs, cli
from drumline_cli.errors import EXIT_CODES

REFERENCE = Path(__file__).resolve().parent / "command.md"

INTRODUCTION = """\
# The command

<!-- Written by `make docs` from the help texts of ansible/command. Change it there. -->

`drumline` runs on the controller: the machine from which you deploy. It reads your project's checkout, writes `deploy/` into it,
and runs the playbooks. `--show` prints the line of any verb and runs nothing; `ansible-playbook site.yml` remains the interface
for those who prefer it.

## Install

```sh
uv tool install ./drumline_cli-0.2.0-py3-none-any.whl      # or: pipx install …
```

The wheel carries the playbooks, and requires exactly the versions of Ansible and its libraries that they are tested with. Build
it from a checkout of Drumline with `make wheel`. In a checkout, `.venv/bin/drumline` uses the checkout's own playbooks.

Completion: `drumline completion bash > ~/.local/share/bash-completion/completions/drumline`.

## What `init` writes

| file in `deploy/` | holds |
|---|---|
| `production.yml`, `local.yml` | the hosts; each is an inventory, `--inventory` names one |
| `group_vars/project/contract.yml` | what the project is: settings module, Celery application, dependencies |
| `group_vars/project/processes.yml` | its queues, with their workers and limits |
| `group_vars/production/main.yml` | what differs from other inventories: site names, e-mail |
| `group_vars/production/vault.yml` | generated secrets, encrypted with `ansible-vault` |
| `.vault-password` | the vault's password, readable by you alone and ignored by git; keep a copy elsewhere |

`init` reads the source as text and never imports it. A second run shows what it would change, such as a queue that was added
since, and changes nothing until `--apply`. Your own values and the numbers of your queues stay. For another environment copy
`production.yml` and `group_vars/production/`, and rename the group. [All variables](configuration.md)
"""


def options(command: click.Command) -> list[str]:
    """Return the rows of a verb's own options."""
    rows = []
    for parameter in command.params:
        if isinstance(parameter, click.Option) and parameter.name not in {"show", "inventory", "folder"}:
            name = ", ".join(f"`{name}`" for name in parameter.opts)
            kind = "" if parameter.is_flag else f" `{parameter.make_metavar(click.Context(command))}`"
            rows.append(f"| {name}{kind} | {parameter.help} |".replace("[12|13]", "[12\\|13]"))
    return rows


def verb(path: str, command: click.Command) -> str:
    """Return the section of a verb."""
    context = click.Context(command, info_name=path)
    usage = " ".join(command.collect_usage_pieces(context)).replace("[OPTIONS] ", "").replace("[OPTIONS]", "").strip()
    text = re.sub(r"(?<!\n)\n(?!\n)", " ", inspect.cleandoc(command.help or ""))
    lines = [f"### `{path}{' ' + usage if usage else ''}`", "", text]
    if rows := options(command):
        lines += ["", "| option | |", "|---|---|", *rows]
    return "\n".join(lines).replace("[refuse|undo|keep]", "[refuse\\|undo\\|keep]") + "\n"


def reference() -> str:
    """Return the whole of docs/command.md."""
    parts = [INTRODUCTION, "## Every verb\n", "| option of every verb | |\n|---|---|\n" + "\n".join(_common()) + "\n"]
    for title, names in Verbs.SECTIONS:
        parts.append(f"## {title}\n")
        for name in names:
            command = cli.commands[name]
            inner = command.commands.items() if isinstance(command, click.Group) else [("", command)]
            parts += [verb(f"drumline {name} {sub}".strip(), each) for sub, each in inner]
    codes = "\n".join(f"| {code.value} | {meaning} |" for code, meaning in EXIT_CODES.items())
    parts.append(f"## Exit codes\n\n| code | meaning |\n|---|---|\n{codes}\n")
    parts.append(
        "`exec`, `manage`, `shell`, `queues` and `dead-letters` end with the code of the command that ran on the host.\n"
    )
    return "\n".join(parts)


def _common() -> list[str]:
    shared = {parameter.name: parameter for parameter in cli.commands["setup"].params}
    return [
        f"| {', '.join(f'`{name}`' for name in option.opts)} | {option.help} |"
        for option in (shared["show"], shared["inventory"], shared["folder"])
        if isinstance(option, click.Option)
    ]


if __name__ == "__main__":
    REFERENCE.write_text(reference())
