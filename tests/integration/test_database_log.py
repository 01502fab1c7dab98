"""What PostgreSQL writes into its log, under the settings that the role gives it."""

import contextlib
import re

import psycopg
import pytest
import yaml

from tests.support.paths import ANSIBLE
from tests.support.waiting import wait_until

ROLE = ANSIBLE / "roles" / "postgresql"
HASH = "pbkdf2_sha256$1000000$salt$hash"


@pytest.fixture
def as_on_a_host(cluster):
    """The log settings of a host, on the server of the tests."""
    defaults = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text())
    template = (ROLE / "templates" / "postgresql.conf").read_text()
    settings = re.findall(r"^(log_\w+) = (.*)$", template, re.MULTILINE)
    for name, template_value in settings:
        value = re.sub(r"{{ (\w+) }}", lambda variable: str(defaults[variable[1]]), template_value.strip("'"))
        cluster.execute("postgres", f"ALTER SYSTEM SET {name} = {value!r}")
    cluster.execute("postgres", "SELECT pg_reload_conf()")
    yield
    cluster.execute("postgres", "ALTER SYSTEM RESET ALL")
    cluster.execute("postgres", "SELECT pg_reload_conf()")


@pytest.mark.usefixtures("as_on_a_host")
@pytest.mark.parametrize("cursor", [psycopg.Cursor, psycopg.ClientCursor], ids=["on the server", "in the client"])
def test_it_names_the_error_and_holds_no_value_wherever_the_driver_binds(cluster, database, cursor):
    value = "somebody@example.com"
    before = (cluster.folder / "log").stat().st_size
    address = f"host={cluster.folder} port={cluster.port} user=drumline dbname={database}"
    with psycopg.connect(address, autocommit=True, cursor_factory=cursor) as connection:
        insert = "INSERT INTO users_user (email, password, full_name, is_superuser, is_staff, is_active, created_at)"
        for _ in range(2):
            with contextlib.suppress(psycopg.errors.UniqueViolation):
                connection.execute(f"{insert} VALUES (%s, %s, '', false, false, true, now())", (value, HASH))
        connection.execute("SELECT pg_sleep(0.6), %s::text", (value,))
        connection.execute("DO $$ BEGIN RAISE LOG 'the end of the test'; END $$")

    def logged() -> str:
        text = (cluster.folder / "log").read_text()[before:]
        return text if "the end of the test" in text else ""

    log = wait_until(logged, "the log is written")
    assert "duplicate key value violates unique constraint" in log
    assert value not in log
    assert HASH not in log
