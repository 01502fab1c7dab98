"""What roles would refuse, found before the first of them runs."""

from __future__ import annotations

DOCUMENTATION = """
name: refused_arguments
short_description: What roles would refuse, found before the first of them runs
description:
  - Holds the variables of the host against the argument specifications of the roles, and returns a sentence for
    each value that a role does not take. What is not set is left to the role's own default.
options:
  _terms: {description: Folders of the roles., required: true}
author: Drumline
"""

from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible.plugins.lookup import LookupBase


class LookupModule(LookupBase):
    """The lookup `refused_arguments`."""

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **_kwargs: Any) -> list[str]:
        """One sentence for each value that a role of the terms does not take."""
        given = variables or {}
        refused = []
        for role in map(Path, terms):
            specification = yaml.safe_load((role / "meta" / "argument_specs.yml").read_text())
            options = specification["argument_specs"]["main"]["options"]
            # A default may be a template, which only the role can evaluate.
            bare = {
                name: {key: value for key, value in option.items() if key != "default"}
                for name, option in options.items()
            }
            values, messages = {}, []
            for name in sorted(options.keys() & given.keys()):
                try:
                    values[name] = self._templar.template(given[name])
                except AnsibleError as error:
                    messages.append(f"{name} cannot be computed: {error.message}")
            messages += ArgumentSpecValidator(bare).validate(values).error_messages
            refused += [f"{message}. Allowed values: docs/configuration.md#{role.name}" for message in messages]
        return refused
