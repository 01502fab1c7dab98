"""What crosses the network between the hosts of a fleet is TLS, verified by who connects."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.conftest import SECRETS
from tests.support.paths import ANSIBLE
from tests.support.rendering import FACTS, Playbooks

ADDRESSES = {"app1": "192.0.2.1", "work1": "192.0.2.2", "data1": "192.0.2.3", "ring1": "192.0.2.4"}
GROUPS = {
    "web": ["app1"],
    "flower": ["app1"],
    "worker": ["work1", "data1"],
    "beat": ["work1"],
    "postgresql": ["data1"],
    "redis": ["ring1"],
}
VERIFIED = {
    "postgres": {"sslmode": ["verify-full"], "sslrootcert": ["/etc/ssl/drumline-ca.crt"]},
    "rediss": {"ssl_cert_reqs": ["required"], "ssl_ca_certs": ["/etc/ssl/drumline-ca.crt"]},
}


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An inventory whose groups are on hosts of their own, but for a worker beside the database."""
    return inventory(tmp_path_factory.mktemp("fleet"), ADDRESSES)


def inventory(folder: Path, addresses: dict[str, str]) -> Path:
    (folder / "group_vars").symlink_to(ANSIBLE / "inventories" / "production" / "group_vars")
    children = {group: {"hosts": dict.fromkeys(names)} for group, names in GROUPS.items()}
    hosts = {name: {"fleet_address": address} for name, address in addresses.items()}
    everything = {"all": {"hosts": hosts, "children": {"production": {"children": children}}}}
    (folder / "hosts.yml").write_text(json.dumps(everything))
    return folder


def on(fleet: Path, host: str) -> Playbooks:
    return Playbooks(fleet, host, **SECRETS)


@pytest.mark.parametrize("host", ["app1", "work1", "data1"])
def test_every_host_of_a_fleet_verifies_the_database_and_the_broker(fleet: Path, host: str) -> None:
    secrets = on(fleet, host).value("app_release", "app_release_secrets")
    for name, scheme in (("DATABASE_URL", "postgres"), ("CELERY_BROKER_URL", "rediss")):
        url = urlsplit(secrets[name])
        assert url.scheme == scheme
        assert parse_qs(url.query) == VERIFIED[scheme]


def test_flower_verifies_the_broker_on_both_of_its_ways_there(fleet: Path) -> None:
    environment = on(fleet, "app1").text("flower", ANSIBLE / "roles/flower/templates/flower.env")
    lines = dict(line.split("=", 1) for line in environment.splitlines() if not line.startswith("#"))
    url = urlsplit(lines["CELERY_BROKER_URL"].strip('"'))
    assert (url.scheme, parse_qs(url.query)) == ("rediss", VERIFIED["rediss"])
    assert lines["SSL_CERT_FILE"] == "/etc/ssl/drumline-ca.crt"


def test_the_broker_of_a_fleet_speaks_nothing_but_tls(fleet: Path) -> None:
    text = on(fleet, "ring1").text("redis", ANSIBLE / "roles/redis/templates/redis.conf")
    settings = dict(line.split(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
    assert settings["port"] == "0"
    assert settings["tls-port"] == "6379"
    assert settings["bind"].split() == ["127.0.0.1", "-::1", ADDRESSES["ring1"]]


def test_the_database_of_a_fleet_lets_other_hosts_in_over_tls_alone(fleet: Path) -> None:
    rules = on(fleet, "data1").text("postgresql", ANSIBLE / "roles/postgresql/templates/pg_hba.conf")
    elsewhere = [line.split() for line in rules.splitlines() if ADDRESSES["work1"] in line or ADDRESSES["app1"] in line]
    assert len(elsewhere) == 2
    assert {line[0] for line in elsewhere} == {"hostssl"}
    # How many connections other hosts need cannot be rendered here.
    server = Playbooks(fleet, "data1", **SECRETS, postgresql_max_connections=100)
    settings = server.text("postgresql", ANSIBLE / "roles/postgresql/templates/postgresql.conf")
    assert "ssl_cert_file = '/etc/postgresql/17/main/drumline.crt'" in settings


@pytest.mark.parametrize(("host", "holds", "problems"), [("data1", True, 0), ("ring1", True, 1), ("ring1", False, 0)])
def test_a_host_that_holds_the_database_does_not_leave_its_group_unnoticed(
    fleet: Path, host: str, *, holds: bool, problems: int
) -> None:
    """The site would run on the empty one that the group's new host gets."""
    there = {"ansible_local": {"drumline": {"project": "Drumline"} | ({"database": True} if holds else {})}}
    found = Playbooks(fleet, host, **SECRETS, ansible_facts=FACTS | there).value("preflight", "__database_problems")

    assert len(found) == problems, found
    assert all(f"{host} holds the database" in problem for problem in found)
    kept = Playbooks(fleet, host, **SECRETS).value("base", "base_database")
    assert kept == (host == "data1"), "what the next run is to know"


@pytest.mark.parametrize("host", ["data1", "ring1"])
def test_a_server_has_a_certificate_for_every_address_that_clients_know_it_by(fleet: Path, host: str) -> None:
    assert on(fleet, host).value("tls", "fleet_names") == [host, ADDRESSES[host], "localhost", "127.0.0.1"]


@pytest.mark.parametrize("host", ["app1", "work1"])
def test_a_host_without_a_server_has_no_certificate_between_hosts(fleet: Path, host: str) -> None:
    assert on(fleet, host).value("tls", "fleet_names") == []


@pytest.mark.parametrize(
    ("host", "unknown", "needed"),
    [
        ("app1", "ring1", True),
        ("app1", "work1", False),
        ("ring1", "work1", True),
        ("ring1", "data1", True),
        ("data1", "ring1", True),
    ],
)
def test_a_host_whose_address_another_one_needs_and_does_not_know_is_named(
    tmp_path: Path, host: str, unknown: str, *, needed: bool
) -> None:
    nothing_known: dict[str, Any] = {"ansible_facts": {}}
    default = Playbooks("production", "app1.example.com", **nothing_known).value("firewall", "fleet_address")
    playbooks = on(inventory(tmp_path, ADDRESSES | {unknown: default}), host)
    problems = playbooks.value("preflight", "__address_problems")
    assert [text.split(",")[0] for text in problems] == [f"{host} needs the address of {unknown}"] * needed


@pytest.mark.parametrize(
    ("host", "ports"), [("app1", [22, 80, 443]), ("work1", [22]), ("data1", [22, 5432]), ("ring1", [22, 6379])]
)
def test_a_host_is_open_for_what_its_groups_need_alone(fleet: Path, host: str, ports: list[int]) -> None:
    playbooks = on(fleet, host)
    public = playbooks.value("firewall", "firewall_public_tcp_ports")
    assert public + [int(port) for port in playbooks.value("firewall", "firewall_peers")] == ports
    assert playbooks.value("verify", "verify_ports") == ports


def test_a_fleet_of_one_host_stays_on_its_loopback_and_needs_no_tls_there(playbooks: Playbooks) -> None:
    secrets = playbooks.value("app_release", "app_release_secrets")
    for name in ("DATABASE_URL", "CELERY_BROKER_URL"):
        assert urlsplit(secrets[name]).hostname == "127.0.0.1"
        assert urlsplit(secrets[name]).query == ""
    assert playbooks.value("redis", "redis_bind") == ["127.0.0.1", "-::1"]
    assert playbooks.value("postgresql", "postgresql_listen_addresses") == ["127.0.0.1"]


@pytest.mark.parametrize("host", ["app1", "work1"])
def test_the_application_reaches_the_database_and_the_broker_at_their_addresses_alone(fleet: Path, host: str) -> None:
    exits = on(fleet, host).value("firewall", "firewall_egress")["drumline"]
    internal = {(one["to"], port) for one in exits for port in one["ports"] if port in (5432, 6379)}
    assert internal == {(ADDRESSES["data1"], 5432), (ADDRESSES["ring1"], 6379)}
    assert not [one for one in exits if 22 in one["ports"]]


def test_flower_reaches_the_broker_alone(fleet: Path) -> None:
    exits = on(fleet, "app1").value("firewall", "firewall_egress")["drumline-flower"]
    assert exits == [{"to": ADDRESSES["ring1"], "ports": [6379]}]


SITE, DATABASE, BROKER = "127.0.0.1:443", "postgres:127.0.0.1:5432", "127.0.0.1:6379"
AUTHORITY = "/etc/ssl/drumline-ca.crt"


@pytest.mark.parametrize(
    ("host", "watched"),
    [
        ("app1", [SITE, AUTHORITY]),
        ("work1", [AUTHORITY]),
        ("data1", [DATABASE, AUTHORITY]),
        ("ring1", [BROKER, AUTHORITY]),
    ],
)
def test_a_host_of_a_fleet_looks_when_all_that_it_shows_ends_and_the_authority_that_it_believes(
    fleet: Path, host: str, watched: list[str]
) -> None:
    playbooks = on(fleet, host)
    assert [one["at"] for one in playbooks.value("tls", "tls_watched")] == watched
    assert playbooks.value("verify", "verify_certificates") == playbooks.value("tls", "tls_watched")
    unit = playbooks.text("tls", ANSIBLE / "roles/tls/templates/drumline-certificate.service")
    (line,) = [line for line in unit.splitlines() if line.startswith("ExecStart=")]
    assert shlex.split(line)[4::2] == watched


def test_a_fleet_of_one_host_looks_at_its_site_alone(playbooks: Playbooks) -> None:
    assert [one["at"] for one in playbooks.value("tls", "tls_watched")] == [SITE]
