"""What a role would refuse, found before the first role runs."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator


def argument_problems(values: dict[str, Any], options: dict[str, Any], role: str) -> list[str]:
    """Sentences about the values that the role's argument specification (its options) does not take.

    Values that are not given are left to the role's own defaults, which its tests cover.
    """
    # A default may be a template, which only the role can evaluate.
    bare = {name: {key: value for key, value in option.items() if key != "default"} for name, option in options.items()}
    refused = ArgumentSpecValidator(bare).validate(values).error_messages
    return [f"{message}. See ansible/roles/{role}/meta/argument_specs.yml for what is allowed." for message in refused]


class FilterModule:
    """Names under which the playbooks use these functions."""

    def filters(self) -> dict[str, Any]:
        """The filters by name."""
        return {"argument_problems": argument_problems}
