"""nginx lets through what the application accepts, on exactly the same paths, and little more."""

from __future__ import annotations

import re

import pytest
from django.conf import settings

from tests.support.paths import ANSIBLE
from tests.support.rendering import Playbooks


@pytest.fixture(scope="module")
def site(playbooks: Playbooks) -> str:
    return playbooks.text("nginx", ANSIBLE / "roles" / "nginx" / "templates" / "site.conf")


def limits(site: str) -> dict[str, int]:
    """Each location's own limit, in bytes; that of the server for all others is under ""."""
    own = dict(re.findall(r"location = (\S+) \{[^}]*?client_max_body_size (\d+)k;", site))
    [everywhere] = re.findall(r"^\tclient_max_body_size (\d+)k;", site, re.MULTILINE)
    return {path: int(kilobytes) * 1024 for path, kilobytes in {**own, "": everywhere}.items()}


def test_a_body_that_the_application_accepts_passes_nginx_and_one_much_larger_does_not(site: str) -> None:
    accepted = {**settings.API_BODY_LIMITS, "": settings.DATA_UPLOAD_MAX_MEMORY_SIZE}
    passed = limits(site)
    assert set(passed) == set(accepted)
    for path, size in accepted.items():
        assert size <= passed[path] <= size * 1.05, path


def test_a_refusal_names_the_limit_of_its_path(site: str) -> None:
    named = dict(
        re.findall(r"^\t(\S+) (\d+);$", site.partition("$drumline_max_body_kb {")[2].partition("}")[0], re.MULTILINE)
    )
    kilobytes = {path or "default": size // 1024 for path, size in limits(site).items()}
    assert {path: int(size) for path, size in named.items()} == kilobytes
