"""Two passwords are taken while the fleet goes from one to the other."""

from __future__ import annotations

import re
from hashlib import sha256
from urllib.parse import urlsplit

import pytest

from tests.conftest import SECRETS
from tests.support.paths import ANSIBLE
from tests.support.rendering import Playbooks

ACL = ANSIBLE / "roles/redis/templates/broker.acl"
OPERATOR = {"__redis_operator_password": "of-the-operator"}


def sha(password: str) -> str:
    return "#" + sha256(password.encode()).hexdigest()


def login(**secrets: str) -> str:
    return str(Playbooks("local", **(SECRETS | secrets)).value("postgresql", "postgresql_login"))


def passwords(acl: str) -> dict[str, list[str]]:
    return {user: re.findall("#[0-9a-f]{64}", rules) for user, rules in re.findall(r"(?m)^user (\S+) (.*)$", acl)}


def test_the_application_logs_in_as_a_role_of_its_password_alone() -> None:
    url = urlsplit(Playbooks("local", **SECRETS).value("app_release", "app_release_secrets")["DATABASE_URL"])

    assert url.username == login()
    assert url.password == SECRETS["vault_postgresql_password"]
    assert login(vault_postgresql_password="another-password") != login()


def test_the_name_of_that_role_cannot_be_computed_from_a_guessed_password() -> None:
    """Everybody on the host sees it in the list of processes."""
    assert re.fullmatch("drumline_[0-9a-f]{8}", login())
    assert login(vault_django_secret_key="another-key") != login()


@pytest.mark.parametrize(
    ("secrets", "logs_in"),
    [
        ({}, False),
        ({"DATABASE_URL": "postgres://drumline:secret@127.0.0.1:6432/drumline?pgbouncer=true"}, True),
        ({"DATABASE_URL": "postgres://drumline_pool:secret@127.0.0.1:6432/drumline?pgbouncer=true"}, False),
    ],
)
def test_the_owner_logs_in_only_where_an_address_of_the_project_names_it(
    secrets: dict[str, str], *, logs_in: bool
) -> None:
    playbooks = Playbooks("local", **SECRETS, app_secrets=secrets)

    assert playbooks.value("postgresql", "postgresql_owner_logs_in") is logs_in


def test_the_broker_takes_the_passwords_before_until_they_are_revoked() -> None:
    found = {"files": [{"path": "/etc/redis/broker.acl", "content": ""}]}
    before = {name: f"former-{name}" for name in SECRETS}
    acl = Playbooks("local", **before, **OPERATOR, __redis_found=found).text("redis", ACL)
    found["files"][0]["content"] = acl

    both = Playbooks("local", **SECRETS, **OPERATOR, __redis_found=found).text("redis", ACL)

    for user in ("app", "flower"):
        former, present = sha(f"former-vault_redis_{user}_password"), sha(SECRETS[f"vault_redis_{user}_password"])
        assert passwords(acl)[user] == [former]
        assert passwords(both)[user] == [present, former]
    found["files"][0]["content"] = both
    assert Playbooks("local", **SECRETS, **OPERATOR, __redis_found=found).text("redis", ACL) == both


def test_the_operator_of_the_broker_loads_users_and_reads_nothing() -> None:
    acl = Playbooks("local", **SECRETS, **OPERATOR, __redis_found={"files": []}).text("redis", ACL)
    [rules] = re.findall(r"(?m)^user operator (.*)$", acl)

    assert rules == f"on {sha('of-the-operator')} resetkeys resetchannels -@all +acl|load +client|kill"
