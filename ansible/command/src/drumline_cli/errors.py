"""Errors as a good compiler reports them: what is wrong, where, and what to type."""

from __future__ import annotations

import enum
import os
from pathlib import Path
from typing import IO

import click


class Exit(enum.IntEnum):
    """What an exit code of `drumline` means."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    PROJECT = 3
    UNREACHABLE = 4
    INTERRUPTED = 130


EXIT_CODES = {
    Exit.DONE: "done, or nothing to do",
    Exit.FAILED: "a playbook or a check failed; the message says what was changed",
    Exit.USAGE: "unknown verb, option or argument; nothing was run",
    Exit.PROJECT: "the project, deploy/ or this machine is not as it must be; nothing was run",
    Exit.UNREACHABLE: "a host could not be reached over SSH",
    Exit.INTERRUPTED: "interrupted by Ctrl-C",
}


class Failure(click.ClickException):
    """A mistake of the user's, which never shows a traceback.

    `where` is a file, a line or a host; `fix` is what to type or change next.
    """

    def __init__(self, what: str, *, where: str | Path = "", fix: str = "", code: Exit = Exit.PROJECT) -> None:
        super().__init__(what)
        self.where = shown(where) if isinstance(where, Path) else where
        self.fix = fix
        self.code = code

    def show(self, file: IO[str] | None = None) -> None:
        """Print it to stderr."""
        click.echo(click.style("error: ", fg="red", bold=True) + self.message, err=True, color=color())
        if self.where:
            click.echo(click.style("  --> ", fg="blue") + self.where, err=True, color=color())
        if self.fix:
            lines = self.fix.splitlines()
            click.echo(click.style("  fix: ", fg="green") + "\n       ".join(lines), err=True, color=color())


def shown(path: Path) -> str:
    """Return a path as a person would type it from here."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path != here and path.is_relative_to(here) else str(path)


def color() -> bool | None:
    """Return False if NO_COLOR is set; otherwise click decides by the terminal."""
    return False if os.environ.get("NO_COLOR") else None
