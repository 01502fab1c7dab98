"""The configuration reference is complete, and it is what the files that define the variables say today."""

from __future__ import annotations

import re

import pytest

from docs import configuration
from tests.support.paths import ANSIBLE, PROJECT
from tests.support.rendering import ROLES, load


@pytest.fixture(scope="module")
def reference() -> str:
    return configuration.reference()


def test_the_configuration_reference_is_current(reference: str) -> None:
    assert configuration.REFERENCE.read_text() == reference, "docs/configuration.md is out of date: run make docs"


def test_the_settings_in_the_package_readme_are_current() -> None:
    readme = configuration.PACKAGE_README
    assert readme.read_text() == configuration.package_readme(), "drumline/README.md is out of date: run make docs"


def test_every_variable_that_a_person_can_set_is_in_the_reference(reference: str) -> None:
    shared = ANSIBLE / "group_vars" / "all"
    variables = {*load(shared / "contract.yml"), *load(shared / "processes.yml")}
    variables |= {name for name in load(shared / "wiring.yml") if name.startswith("fleet_")}
    variables |= {name for role in ROLES for name in load(role / "defaults" / "main.yml")}
    variables |= {name for path in ANSIBLE.rglob("*.yml") for name in re.findall(r"\bvault_\w+", path.read_text())}

    assert {name for name in variables if f"| `{name}` |" not in reference} == set()


def test_every_setting_that_the_package_reads_is_in_the_reference(reference: str) -> None:
    sources = (PROJECT / "drumline" / "src").rglob("*.py")
    settings = {name for path in sources for name in re.findall(r"\bDRUMLINE_[A-Z_]*[A-Z]\b", path.read_text())}

    assert {name for name in settings if f"| `{name}` |" not in reference} == set()


def test_a_variable_without_a_description_is_refused_by_its_name(tmp_path, monkeypatch) -> None:
    (tmp_path / "contract.yml").write_text("# What is said.\napp_said: 1\n\napp_unsaid: 2\n")
    monkeypatch.setattr(configuration, "PROJECT", tmp_path)

    with pytest.raises(configuration.UndescribedError, match=r"app_unsaid in contract\.yml"):
        configuration.described_in_comments(tmp_path / "contract.yml")
