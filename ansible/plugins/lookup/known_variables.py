"""The names of the variables that the playbooks and roles read."""

from __future__ import annotations

DOCUMENTATION = """
name: known_variables
short_description: The names of the variables that the playbooks and roles read
description:
  - Returns the names in group_vars/all, and those in the defaults and argument specifications of all roles, without what is
    private to them. The callback asked and the command drumline hold against them what a person wrote.
options:
  _terms: {description: Nothing., required: false}
author: Drumline
"""

from pathlib import Path
from typing import Any

import yaml

from ansible.plugins.lookup import LookupBase

_ANSIBLE = Path(__file__).resolve().parents[2]


class LookupModule(LookupBase):
    """The lookup `known_variables`."""

    def switches(self) -> list[str]:
        """The names of those in group_vars/all that are true or false."""
        return sorted(name for name, value in self._contract().items() if isinstance(value, bool))

    def run(self, _terms: list[str], _variables: dict[str, Any] | None = None, **_kwargs: Any) -> list[str]:
        """The names, sorted."""
        names = set(self._contract())
        for path in _ANSIBLE.glob("roles/*/defaults/main.yml"):
            names |= set(yaml.safe_load(path.read_text()) or {})
        for path in _ANSIBLE.glob("roles/*/meta/argument_specs.yml"):
            specs = yaml.safe_load(path.read_text())["argument_specs"]
            names |= {name for spec in specs.values() for name in spec.get("options", {})}
        return sorted(name for name in names if not name.startswith("_"))

    def _contract(self) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for path in _ANSIBLE.glob("group_vars/all/*.yml"):
            values |= yaml.safe_load(path.read_text())
        return values
