"""The environment of a project by the names that it reads itself."""

from __future__ import annotations

import re
import string
from typing import Any

# What a template may name, and which of it is a secret.
_SECRET = {"broker_url", "cache_url", "database.password", "database.url", "email.password", "email.url", "secret_key"}


_FIELD = re.compile(r"\{[a-z_.]+\}")


class _Template(string.Formatter):
    """Fills in `{database.host}` from nested values, and remembers what it named."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values
        self.named: set[str] = set()

    def get_field(self, field_name: str, args: Any, kwargs: Any) -> tuple[Any, str]:
        self.named.add(field_name)
        return _value(self.values, field_name), field_name


def _fields(values: dict[str, Any], prefix: str = "") -> list[str]:
    names = []
    for name, value in values.items():
        names += _fields(value, f"{prefix}{name}.") if isinstance(value, dict) else [f"{prefix}{name}"]
    return names


def environment_problems(names: dict[str, str | None], values: dict[str, Any]) -> list[str]:
    """What is wrong with app_environment."""
    known = _fields(values)
    problems = []
    for name, template in names.items():
        if template is None:
            continue
        try:
            fields = _named(str(template))
        except ValueError as error:
            problems.append(f"app_environment.{name} cannot be read: {error}. A template is text with {{field}} in it.")
            continue
        problems += [
            f"app_environment.{name} names {{{field}}}, which is none of {', '.join(known)}. For a literal value use app_env."
            for field in fields
            if field not in known
        ]
    return problems


def environment(names: dict[str, str | None], values: dict[str, Any], *, secret: bool) -> dict[str, str]:
    """The variables by name that hold a secret, or those that hold none.

    `names` gives each variable a template such as `{database.host}:{database.port}`, or null to leave it out. `values` is
    what templates name. A variable that names something that the fleet does not have, such as a cache, is left out.
    """
    there = {name: template for name, template in names.items() if template is not None and _has(str(template), values)}
    found = {}
    for name, template in there.items():
        filler = _Template(values)
        text = filler.vformat(str(template), (), {})
        if bool(filler.named & _SECRET) == secret:
            found[name] = text
    return found


def unset(variables: dict[str, Any]) -> list[str]:
    """The names of variables that are null: init found that the project needs them, and nobody has set them yet."""
    return [name for name, value in variables.items() if value is None]


def _named(template: str) -> list[str]:
    """The fields that a template names."""
    return [field for _, field, _, _ in string.Formatter().parse(template) if field is not None]


def _has(template: str, values: dict[str, Any]) -> bool:
    return all(_value(values, field) is not None for field in _named(template) if field)


def settings(own: Any, values: dict[str, Any]) -> Any:
    """A value of app_settings, in whose texts each known field, such as `{database.host}`, stands for its value."""
    if isinstance(own, dict):
        return {key: settings(value, values) for key, value in own.items()}
    if isinstance(own, list):
        return [settings(value, values) for value in own]
    if not isinstance(own, str):
        return own
    known = {f"{{{field}}}" for field in _fields(values)}
    return _FIELD.sub(lambda match: str(_value(values, match[0][1:-1])) if match[0] in known else match[0], own)


def _value(values: dict[str, Any], field: str) -> Any:
    """What a field stands for; None where the fleet has no such thing."""
    found: Any = values
    for part in field.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


class FilterModule:
    """Names under which the playbooks use these functions."""

    def filters(self) -> dict[str, Any]:
        """The filters by name."""
        return {
            "environment": lambda names, values, secret=False: environment(names, values, secret=secret),
            "environment_problems": environment_problems,
            "settings": settings,
            "unset": unset,
        }
