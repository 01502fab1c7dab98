"""Run programs on the controller, and say of a failure what helps."""

from __future__ import annotations

import os
import re
import subprocess
from textwrap import indent
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_LOGIN = re.compile(r"(?<=://)[^/@\s]+@")
# Lines that name a cause: those of uv, pip, git, compilers, Python and npm.
_TELLING = re.compile(
    r"\s*[\xd7╰├│▶]|\s*(?:error|fatal|hint|npm (?:error|ERR!))\b|E:|.*(?:\w*(?:Error|Exception):|\berror:|[Nn]ot found\b|"
    r"No such file|No module named|[Cc]ould not |[Cc]an ?not |[Pp]ermission denied|is required)",
    re.IGNORECASE,
)
_SHOWN = 12


class PackingError(Exception):
    """What is wrong with the project, and what to do about it."""

    def __init__(self, message: str, output: str = "") -> None:
        super().__init__(message)
        # All that the failed program printed.
        self.output = output


def without_logins(text: str) -> str:
    """The text without the user and the password of any URL in it."""
    return _LOGIN.sub("***@", text)


def telling(output: str) -> str:
    """The lines of a program's output that name a cause; all of a short one."""
    lines = [line.rstrip() for line in _COLOUR.sub("", without_logins(output)).splitlines() if line.strip()]
    if len(lines) <= _SHOWN:
        return "\n".join(lines)
    named = list(dict.fromkeys(line for line in lines if _TELLING.match(line)))
    if len(named) > _SHOWN:
        # The first cause, and what the outermost program made of it.
        named = [*named[: _SHOWN - 4], *named[-4:]]
    return "\n".join(named or lines[-_SHOWN:])


def run(
    command: Sequence[str | Path],
    *,
    failed: str,
    cwd: Path | None = None,
    env: Mapping[str, str | None] | None = None,
    advice: str = "",
) -> str:
    """Return what a program printed, or raise with the sentence `failed`, its reason and the advice.

    `env` adds to the environment, and None takes a variable out of it.
    """
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words,
            cwd=cwd,
            env={name: value for name, value in {**os.environ, **(env or {})}.items() if value is not None},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    except FileNotFoundError:
        raise PackingError(f"{failed}: {words[0]} is not installed on the controller.") from None
    if done.returncode != 0:
        output = f"{done.stdout}\n{done.stderr}"
        reason = telling(done.stderr) or telling(done.stdout)
        message = f"{failed}:\n{indent(reason, '  ')}" if reason else f"{failed}."
        raise PackingError(message + (f"\n{advice}" if advice else ""), output)
    return done.stdout
