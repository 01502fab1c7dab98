"""A role's defaults and its argument specification say the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import SECRETS
from tests.support.paths import ANSIBLE
from tests.support.rendering import ROLES, Playbooks, load

TYPES = {"str": str, "bool": bool, "int": int, "list": list, "dict": dict, "path": str, "float": float}
roles = pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)


def options(role: Path) -> dict:
    return load(role / "meta" / "argument_specs.yml")["argument_specs"]["main"]["options"]


@roles
def test_every_default_is_an_argument_and_every_argument_has_a_default_or_is_required(role: Path) -> None:
    defaults = load(role / "defaults" / "main.yml")
    specified = options(role)
    without_default = {name for name, option in specified.items() if option.get("required")}

    assert set(defaults) - set(specified) == set(), "defaults that the specification does not know"
    assert set(specified) - set(defaults) - without_default == set(), "arguments with neither a default nor required"


@roles
def test_a_default_has_the_value_and_the_type_that_the_specification_gives(role: Path) -> None:
    defaults = load(role / "defaults" / "main.yml")
    for name, option in options(role).items():
        if option.get("required"):
            assert "default" not in option, f"{name} is required and has a default"
            continue
        assert option["default"] == defaults[name], f"{name} has two defaults"
        if not (isinstance(defaults[name], str) and "{{" in defaults[name]):
            assert isinstance(defaults[name], TYPES[option["type"]]), f"{name} is no {option['type']}"


@roles
def test_every_argument_is_explained(role: Path) -> None:
    for name, option in options(role).items():
        assert option.get("description"), f"{name} has no description"


@roles
def test_a_default_has_a_sentence_above_it(role: Path) -> None:
    lines = (role / "defaults" / "main.yml").read_text().splitlines()
    for number, line in enumerate(lines):
        if line[:1].isalpha():
            above = [before for before in lines[:number] if before.startswith("#")]
            assert above, f"{role.name}: {line} has no sentence above it"


@roles
def test_a_role_names_no_other_role(role: Path) -> None:
    others = [other.name for other in ROLES if other != role]
    for path in [*role.glob("tasks/*.yml"), *role.glob("handlers/*.yml"), *role.glob("meta/main.yml")]:
        text = path.read_text()
        for other in others:
            for word in (f"role: {other}", f"name: {other}\n", f"roles/{other}/"):
                assert word not in text, f"{path} names the role {other}"


def plays(playbook: Path) -> Iterator[dict]:
    """Yield the plays of a playbook and of those that it imports."""
    for play in load(playbook):
        imported = play.get("ansible.builtin.import_playbook")
        yield from plays(playbook.parent / imported) if imported else [play]


def run_whole(node: Any) -> Iterator[str]:
    """Yield the roles whose main tasks a play or a block of it runs."""
    if isinstance(node, list):
        for each in node:
            yield from run_whole(each)
    elif isinstance(node, dict):
        imported = node.get("ansible.builtin.import_role", {})
        if name := node.get("role") or ("tasks_from" not in imported and imported.get("name")):
            yield name
        for each in node.values():
            yield from run_whole(each)


def test_a_role_is_held_against_its_arguments_on_every_host_that_runs_it() -> None:
    roles_of = load(ANSIBLE / "group_vars/all/wiring.yml")["__roles"]
    run = {
        (group, role)
        for play in plays(ANSIBLE / "site.yml")
        for group in play["hosts"].split(":")
        for role in run_whole([play.get(part) for part in ("pre_tasks", "roles", "tasks", "post_tasks")])
        if role != "preflight"
    }

    assert ("web", "nginx") in run, "no role was found in site.yml"
    assert {(group, role) for group, roles in roles_of.items() for role in roles} == run


def written(switch: Any) -> dict[str, str]:
    """What is written to a host whose switches all have this value."""
    playbooks = Playbooks(
        "local",
        **SECRETS,
        app_hsts_include_subdomains=switch,
        app_media_root="media",
        app_media_private=switch,
        app_flower={"login": "password", "operable": switch, "max_tasks": 1, "memory_mb": 256},
        app_email={"host": "127.0.0.1", "port": 25, "use_tls": switch, "user": "", "from": "shop@example.com"},
        app_environment={"TLS": "{email.use_tls}", "URL": "{email.url}"},
        base_security_updates=switch,
    )
    templates = {"nginx": "site.conf", "flower": "flower.env", "base": "apt.conf"}
    texts = {
        name: playbooks.text(role, ANSIBLE / "roles" / role / "templates" / name) for role, name in templates.items()
    }
    return texts | {
        "hsts": playbooks.value("nginx", "__nginx_hsts"),
        "env": playbooks.value("app_release", "app_release_env"),
    }


@pytest.mark.parametrize(("switch", "text"), [(True, "yes"), (True, "true"), (False, "no"), (False, "false")])
def test_a_switch_means_the_same_as_text(switch: Any, text: str) -> None:
    """What --extra-vars NAME=false gives is text, which is true to a template."""
    meant = written(switch)
    for name, content in written(not switch).items():
        assert meant[name] != content, f"{name} does not depend on the switches that this sets"

    assert written(text) == meant
