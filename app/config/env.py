"""Typed readers of environment variables that fail loudly.

Every variable the application reads goes through this module, which remembers each one. Tests compare
that list with what the playbook renders: `python -m config.env config.settings.production` prints it.

An empty value counts as missing, because an unset template variable renders as one.
"""

import importlib
import json
import os
import runpy
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Variable:
    """One environment variable as it was asked for."""

    name: str
    kind: str
    secret: bool
    example: str


class EnvironmentProblemError(Exception):
    """One or more environment variables are missing or malformed."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(["The environment variables are not valid:", *(f"  - {p}" for p in problems)]))


_variables: dict[str, Variable] = {}
_fallbacks: dict[str, str] = {}
_collected: list[list[str]] = []


def variables() -> tuple[Variable, ...]:
    """Return every variable read so far in this process, sorted by name."""
    return tuple(sorted(_variables.values(), key=lambda variable: variable.name))


def provide(**values: str) -> None:
    """Give values for what the environment leaves out: development and test settings run without one."""
    _fallbacks.update(values)


@contextmanager
def together() -> Iterator[None]:
    """Report the problems of every variable read in this block at once, when it ends.

    Until then a broken variable stands in with its example, so that what is derived from it can be computed.
    """
    problems: list[str] = []
    _collected.append(problems)
    try:
        yield
    finally:
        _collected.pop()
    if problems:
        fail(*problems)


def fail(*problems: str) -> None:
    """Raise the problems, or hand them to the enclosing `together` block."""
    if _collected:
        _collected[-1].extend(problems)
    else:
        raise EnvironmentProblemError(list(problems))


def string(name: str, *, example: str, secret: bool = False, at_least: int = 1) -> str:
    """Read a text of at least so many characters."""

    def parse(value: str) -> str:
        if len(value) < at_least:
            message = f"has {len(value)} characters and needs at least {at_least}"
            raise ValueError(message)
        return value

    return _read(name, "string", parse, example=example, secret=secret)


def optional_string(name: str, *, example: str, secret: bool = False) -> str:
    """Read a text that may be missing, which means the empty one."""
    _variables[name] = Variable(name, "string", secret, example)
    return (os.environ.get(name) or _fallbacks.get(name) or "").strip()


def flag_of_url(name: str, parameters: dict[str, Any], flag: str) -> bool:
    """Take a flag out of a URL's parameters; without it, it is false."""
    value = str(parameters.pop(flag, "false")).lower()
    if value not in {"true", "false"}:
        fail(f"{name} has {flag}={value}, which is neither true nor false")
    return value == "true"


def choice(name: str, allowed: tuple[str, ...], *, example: str) -> str:
    """Read one of a few allowed words."""

    def parse(value: str) -> str:
        if value not in allowed:
            message = f"is {value!r}, which is not one of {', '.join(allowed)}"
            raise ValueError(message)
        return value

    return _read(name, "choice", parse, example=example)


def boolean(name: str, *, example: str) -> bool:
    """Read `true` or `false`, and nothing that only looks like it."""

    def parse(value: str) -> bool:
        if value.lower() not in {"true", "false"}:
            message = f"is {value!r}, which is neither true nor false"
            raise ValueError(message)
        return value.lower() == "true"

    return _read(name, "boolean", parse, example=example)


def integer(name: str, *, example: str, at_least: int = 0, at_most: int | None = None) -> int:
    """Read a whole number within bounds."""

    def parse(value: str) -> int:
        try:
            number = int(value)
        except ValueError:
            message = f"is {value!r}, which is not a whole number"
            raise ValueError(message) from None
        if number < at_least or (at_most is not None and number > at_most):
            bounds = f"at least {at_least}" if at_most is None else f"from {at_least} to {at_most}"
            message = f"is {number} and must be {bounds}"
            raise ValueError(message)
        return number

    return _read(name, "integer", parse, example=example)


def words(name: str, *, example: str) -> list[str]:
    """Read a list separated by commas; blanks around the items do not count."""

    def parse(value: str) -> list[str]:
        items = [item.strip() for item in value.split(",")]
        if not all(items):
            message = f"is {value!r}, which has an empty item"
            raise ValueError(message)
        return items

    return _read(name, "list", parse, example=example)


def url(name: str, schemes: tuple[str, ...], *, example: str, secret: bool = False) -> str:
    """Read a URL of one of the allowed schemes."""

    def parse(value: str) -> str:
        try:
            parts = urlsplit(value)
            parts.port  # noqa: B018  reading it is what makes urllib check it
        except ValueError:
            message = "is not a URL (a password in it must be percent-encoded)"
            raise ValueError(message) from None
        if parts.scheme not in schemes:
            message = f"has the scheme {parts.scheme!r}, which is not one of {', '.join(schemes)}"
            raise ValueError(message)
        if not (parts.netloc or parts.path.strip("/")):
            message = "names neither a host nor a path"
            raise ValueError(message)
        return value

    return _read(name, "url", parse, example=example, secret=secret)


def time_zone(name: str, *, example: str) -> str:
    """Read the name of a time zone that this host knows."""

    def parse(value: str) -> str:
        try:
            return ZoneInfo(value).key
        except (ValueError, OSError, ZoneInfoNotFoundError):
            message = f"is {value!r}, which is no time zone"
            raise ValueError(message) from None

    return _read(name, "time zone", parse, example=example)


def settings_module() -> str:
    """Read which settings to start with; there is no default, so that no host runs development by accident."""
    return string("DJANGO_SETTINGS_MODULE", example="config.settings.production")


def _read(name: str, kind: str, parse: Callable[[str], T], *, example: str, secret: bool = False) -> T:
    _variables[name] = Variable(name, kind, secret, example)
    value = (os.environ.get(name) or _fallbacks.get(name) or "").strip()
    if not value:
        fail(f"{name} is missing (example: {example})")
        return parse(example)
    try:
        return parse(value)
    except ValueError as error:
        # A secret's value never goes into a message; the parsers name only its shape.
        fail(f"{name} {error} (example: {example})")
        return parse(example)


def listing(target: str) -> list[dict[str, object]]:
    """Load a settings module or a Python file, whatever the environment holds, and list what it reads."""
    _collected.append([])
    settings_module()
    # The blocks inside the target report to this one instead of raising.
    if target.endswith(".py"):
        runpy.run_path(target)
    else:
        importlib.import_module(target)
    _collected.pop()
    return [asdict(variable) for variable in variables()]


if __name__ == "__main__":
    # Run as a script this file is `__main__`; the settings register with `config.env`, so ask that one.
    sys.stdout.write(json.dumps(importlib.import_module("config.env").listing(sys.argv[1])) + "\n")
