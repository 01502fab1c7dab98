"""What differs between the hosts' distributions, and which of them are refused."""

from __future__ import annotations

import pytest

from tests.conftest import SECRETS
from tests.support.paths import ANSIBLE
from tests.support.rendering import FACTS, Playbooks


def on(distribution: str, version: str, release: str, **variables: object) -> Playbooks:
    facts = {
        "distribution": distribution,
        "distribution_major_version": version.partition(".")[0],
        "distribution_release": release,
        "distribution_version": version,
    }
    return Playbooks(ansible_facts=FACTS | facts, **SECRETS, **variables)


HOSTS = {
    "Debian 12": (("Debian", "12.11", "bookworm"), "15", "listen 443 ssl http2", False),
    "Debian 13": (("Debian", "13.1", "trixie"), "17", "http2 on;", True),
    "Ubuntu 24.04": (("Ubuntu", "24.04", "noble"), "16", "listen 443 ssl http2", False),
}


@pytest.mark.parametrize(("host", "postgresql", "http2", "new_redis"), HOSTS.values(), ids=HOSTS)
def test_each_server_gets_what_its_version_there_understands(
    host: tuple[str, str, str], postgresql: str, http2: str, *, new_redis: bool
) -> None:
    playbooks = on(*host)

    site = playbooks.text("nginx", ANSIBLE / "roles/nginx/templates/site.conf")
    users = playbooks.value("redis", "__redis_connection")

    assert playbooks.value("postgresql", "__postgresql_configuration") == f"/etc/postgresql/{postgresql}/main"
    assert http2 in site
    assert ("+client|setinfo" in users) is new_redis


@pytest.mark.parametrize(
    ("host", "supported"),
    [
        (("Debian", "12.11", "bookworm"), True),
        (("Debian", "13.1", "trixie"), True),
        (("Debian", "11.11", "bullseye"), False),
        (("Ubuntu", "24.04", "noble"), False),
        (("Ubuntu", "12.04", "precise"), False),
        (("Rocky", "9.5", "Blue Onyx"), False),
    ],
)
def test_a_distribution_that_no_test_has_run_on_is_refused(host: tuple[str, str, str], *, supported: bool) -> None:
    playbooks = on(*host)
    assert playbooks.value("preflight", "__preflight_release in __preflight_supported") is supported


def test_ubuntu_can_be_tried_by_its_full_number() -> None:
    playbooks = on("Ubuntu", "24.04", "noble", fleet_distributions={"Ubuntu": ["24.04"]})
    assert playbooks.value("preflight", "__preflight_release in __preflight_supported") is True
