"""The database server."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

if TYPE_CHECKING:
    from testinfra.host import Host

UNITS = ["postgresql@*"]


def query(host: Host, statement: str) -> str:
    return str(host.check_output(f'runuser -u postgres -- psql --no-psqlrc -Atc "{statement}"')).strip()


def test_the_server_runs_and_starts_with_the_host(host: Host) -> None:
    assert query(host, "select 1") == "1"
    assert host.service("postgresql").is_enabled


def test_it_listens_on_the_loopback_alone(host: Host) -> None:
    listening = [line.split()[3] for line in host.check_output("ss -Hltn sport = :5432").splitlines()]
    assert listening
    assert all(at.startswith(("127.", "[::1]")) for at in listening)


def test_a_wrong_password_is_refused(host: Host) -> None:
    attempt = host.run("PGPASSWORD=wrong psql --no-psqlrc -h 127.0.0.1 -U drumline -c 'select 1' drumline")
    assert attempt.rc != 0
    assert "password authentication failed" in attempt.stderr


def test_passwords_are_kept_as_scram_verifiers(host: Host) -> None:
    verifiers = query(host, "select left(rolpassword, 14) from pg_authid where rolpassword is not null")
    assert set(verifiers.splitlines()) == {"SCRAM-SHA-256$"}


def test_the_owner_is_no_superuser(host: Host) -> None:
    rights = query(host, "select rolsuper, rolcreatedb, rolcreaterole from pg_roles where rolname = 'drumline'")
    assert rights == "f|f|f"


def test_the_database_belongs_to_its_owner(host: Host) -> None:
    owner = query(host, "select pg_get_userbyid(datdba) from pg_database where datname = 'drumline'")
    assert owner == "drumline"


@pytest.mark.parametrize("method", ["trust", "password", "md5"])
def test_no_rule_lets_in_without_scram(host: Host, method: str) -> None:
    assert query(host, f"select count(*) from pg_hba_file_rules where auth_method = '{method}'") == "0"


@pytest.mark.parametrize(
    "right",
    ["has_schema_privilege('public', 'public', 'usage')", "has_database_privilege('public', 'drumline', 'connect')"],
)
def test_no_other_role_gets_into_the_database(host: Host, right: str) -> None:
    # A role that exists on every server and was granted nothing stands for everyone.
    statement = right.replace("'public'", "'pg_monitor'", 1)
    answer = host.check_output(f'runuser -u postgres -- psql --no-psqlrc -Atc "select {statement}" drumline')
    assert answer.strip() == "f"


def test_the_log_tells_of_errors_and_shows_nobodys_data(host: Host) -> None:
    """What a refused row, a refused statement and a slow one hold stays out of it."""
    files = "/var/log/postgresql/postgresql-*-main.log"
    before = int(host.check_output(f"cat {files} | wc -c"))
    value = f"somebody-{uuid4().hex}@example.com"
    statements = f"""
        CREATE TEMPORARY TABLE accounts (email text PRIMARY KEY);
        INSERT INTO accounts VALUES ('{value}');
        INSERT INTO accounts VALUES ('{value}');
        SELECT pg_sleep(0.6), '{value}';
        DO $$ BEGIN RAISE LOG 'the end of the test'; END $$;
    """
    host.run(f"runuser -u postgres -- psql --no-psqlrc -q <<'EOF'\n{statements}\nEOF")

    log = host.check_output(f"cat {files} | tail -c +{before + 1}")

    assert "the end of the test" in log
    assert 'duplicate key value violates unique constraint "accounts_pkey"' in log
    assert value not in log


def test_slow_statements_are_listed_without_their_values(host: Host) -> None:
    value = f"somebody-{uuid4().hex}"
    asked = f"select pg_sleep(0.1), '{value}' as of_the_test"
    listed = "select query from pg_stat_statements where query like '%of_the_test%' and query not like '%listed%'"
    shown = host.check_output(
        f"runuser -u postgres -- psql --no-psqlrc -At -c \"{asked}\" -c \"{listed} and 'listed' <> ''\" drumline"
    )
    assert "select pg_sleep($1), $2 as of_the_test" in shown


def test_nothing_waits_for_a_restart(host: Host) -> None:
    assert query(host, "select count(*) from pg_settings where pending_restart") == "0"


def test_a_crashed_server_comes_back_and_a_stopped_one_stays_stopped(host: Host) -> None:
    unit = host.check_output("systemctl list-units --plain --no-legend 'postgresql@*'").split()[0]
    assert host.check_output(f"systemctl show --value --property=Restart {unit}") == "on-failure"
