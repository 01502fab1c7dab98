"""The ansible-playbook line of a verb: built, shown or run."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from drumline_cli import bundle
from drumline_cli.errors import Exit, Failure, color

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from drumline_cli.project import Project

# ansible-playbook's own exit codes.
_UNREACHABLE = 4
_USAGE = 5
_INTERRUPTED = 99
# Seconds after which a task is named: on a terminal, where its line is replaced, and in a log.
_PATIENCE, _LONG = 2, 30


def line(
    project: Project,
    playbooks: Sequence[str],
    variables: Mapping[str, object] | None = None,
    further: Sequence[str] = (),
) -> list[str]:
    """Return the command line for playbooks of this name, with variables of the highest precedence."""
    program = bundle.program("ansible-playbook")
    if not program.exists():
        raise Failure(
            "ansible-playbook is not installed beside drumline.",
            where=program,
            fix="Install the command again: uv tool install --force drumline-cli",
        )
    return [
        str(program),
        *("--inventory", str(project.hosts)),
        *project.vault_arguments(),
        *(str(bundle.ansible() / f"{name}.yml") for name in playbooks),
        *(["--extra-vars", json.dumps(dict(variables))] if variables else []),
        *further,
    ]


def environment() -> dict[str, str]:
    """Return the environment that the line is run with, beside what there is."""
    return {"ANSIBLE_CONFIG": str(bundle.ansible() / "ansible.cfg"), "ANSIBLE_STDOUT_CALLBACK": "progress"}


def as_text(command: Sequence[str], extra: Mapping[str, str] | None = None) -> str:
    """Return a line that a person can paste into a shell."""
    program, *arguments = command
    if shutil.which(Path(program).name) == program:
        program = Path(program).name
    assigned = [f"{name}={shlex.quote(value)}" for name, value in (extra or {}).items()]
    return " ".join([*assigned, shlex.join([program, *arguments])])


def run(command: Sequence[str], *, show: bool, extra: Mapping[str, str] | None = None) -> None:
    """Run a playbook line and end with its result, or print it only."""
    given = environment() | dict(extra or {})
    if show:
        click.echo(as_text(command, given))
        return
    # Modules and plugins call Ansible's own programs.
    path = f"{bundle.program('')}{os.pathsep}{os.environ.get('PATH', '')}"
    started = time.monotonic()
    code = _follow(command, {**os.environ, **given, "PATH": path})
    took = elapsed(time.monotonic() - started)
    if code == 0:
        click.echo(click.style(f"done in {took}", fg="green"), err=True, color=color())
        return
    names = ", ".join(Path(part).name for part in command if part.endswith(".yml") and str(bundle.ansible()) in part)
    if code == _INTERRUPTED or code < 0 or code == Exit.INTERRUPTED:
        raise Failure(
            f"Interrupted after {took}.",
            fix="Run the same line again; it continues where it can.",
            code=Exit.INTERRUPTED,
        )
    if code == _UNREACHABLE:
        raise Failure(
            f"A host was not reached ({names}, {took}).",
            fix="drumline doctor   says which, and why",
            code=Exit.UNREACHABLE,
        )
    raise Failure(
        f"{names} failed after {took}; the reason stands above.",
        fix="" if code != _USAGE else "Options after -- go to ansible-playbook as they are; correct them.",
        code=Exit.FAILED,
    )


def _follow(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run a playbook and, while a task takes long, say which one and for how long the run has gone on."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    try:
        process = subprocess.Popen(command, env={**environment, "DRUMLINE_PROGRESS": str(writing)}, pass_fds=[writing])
    finally:
        os.close(writing)
    terminal = sys.stderr.isatty()
    started = now = began = time.monotonic()
    task, said = "", 0.0
    try:
        while True:
            try:
                return process.wait(timeout=1)
            except subprocess.TimeoutExpired:
                pass
            except KeyboardInterrupt:
                # The terminal sent it to the program, too, which ends by itself.
                continue
            with contextlib.suppress(BlockingIOError):
                if names := os.read(reading, 65536).decode(errors="replace").splitlines():
                    task, began = names[-1], time.monotonic()
            now = time.monotonic()
            if task and now - began > (_PATIENCE if terminal else _LONG) and now - said >= (1 if terminal else _LONG):
                said = now
                text = f"{elapsed(now - started)}  … {task}"
                width = shutil.get_terminal_size().columns - 1
                click.echo(f"\r\x1b[K{text[:width]}" if terminal else text, nl=not terminal, err=True)
    finally:
        if terminal:
            click.echo("\r\x1b[K", nl=False, err=True)
        os.close(reading)


def call(command: Sequence[str], environment: Mapping[str, str] | None = None) -> int:
    """Run a program in the foreground, let it handle Ctrl-C, and return its exit code."""
    try:
        process = subprocess.Popen(command, env=environment)
    except FileNotFoundError:
        raise Failure(f"{command[0]} is not installed on this machine.", fix=f"apt-get install {command[0]}") from None
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            # The terminal sent it to the program, too, which ends by itself.
            continue


def elapsed(seconds: float) -> str:
    """Return a duration as 42 s or 3 min 05 s."""
    whole = round(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60:02} s"  # noqa: PLR2004 - seconds of a minute
