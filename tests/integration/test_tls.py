"""The application reaches its database and its broker over TLS, and refuses who is not vouched for.

With the addresses that the playbook renders for a fleet of several hosts.
"""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import SECRETS
from tests.support.application import Application
from tests.support.paths import BIN, PROJECT, PYTHON
from tests.support.ports import free_port
from tests.support.rendering import ANSIBLE, Playbooks
from tests.support.servers import PostgreSQL
from tests.support.waiting import wait_until

# Every connection that a process of Drumline opens, each by its own code.
ASK = """
import json
import redis
from celery import current_app
from django.db import connection
from drumline.health.checks import readiness
from drumline.ledger.postgresql import PostgreSQLStore
from drumline.relay.listening import Listener

ENCRYPTED = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"

def of_django():
    with connection.cursor() as cursor:
        cursor.execute(ENCRYPTED)
        return cursor.fetchone()[0]

def of_the_ledger():
    return PostgreSQLStore()._execute(ENCRYPTED).fetchone()[0]

def of_the_listener():
    listener = Listener()
    listener.wait(0)
    return listener._connection.pgconn.ssl_in_use

def of_the_health_check():
    return readiness()["database"].ok

def of_celery():
    with current_app.connection_for_write() as broker:
        broker.ensure_connection(max_retries=1)
        channel = broker.default_channel
        channel.client.ping()
        return isinstance(channel.client.connection_pool.make_connection(), redis.SSLConnection)

def of_the_health_check_to_the_broker():
    return readiness()["broker"].ok

answers = {}
for ask in (of_django, of_the_ledger, of_the_listener, of_the_health_check, of_celery, of_the_health_check_to_the_broker):
    try:
        answers[ask.__name__] = ask()
    except Exception as error:
        answers[ask.__name__] = str(error)
print(json.dumps(answers))
"""


def openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


class Authority:
    """A private authority and one certificate of it for an address."""

    def __init__(self, folder: Path, address: str) -> None:
        folder.mkdir()
        curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
        self.certificate, key = folder / "ca.crt", folder / "ca.key"
        openssl("req", "-x509", *curve, "-keyout", str(key), "-out", str(self.certificate), "-subj", "/CN=authority")
        self.server_certificate, self.server_key = folder / "server.crt", folder / "server.key"
        signed = ("-CA", str(self.certificate), "-CAkey", str(key), "-subj", "/CN=server")
        files = ("-keyout", str(self.server_key), "-out", str(self.server_certificate))
        openssl("req", "-x509", *curve, *signed, *files, "-addext", f"subjectAltName=IP:{address}")


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Where `postgres` reads, which no folder of pytest is."""
    folder = Path(tempfile.mkdtemp(prefix="drumline-tls-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def authority(folder: Path) -> Authority:
    return Authority(folder / "right", "127.0.0.1")


@pytest.fixture(scope="module")
def database(folder: Path, authority: Authority) -> Iterator[int]:
    """A server that lets nobody in over plain TCP; its port."""
    place = folder / "postgresql"
    place.mkdir()
    cluster = PostgreSQL(place)
    cluster.create()
    shutil.copy(authority.server_certificate, place / "data/drumline.crt")
    shutil.copy(authority.server_key, place / "data/drumline.key")
    if os.geteuid() == 0:
        shutil.chown(place / "data/drumline.key", "root", "postgres")
        (place / "data/drumline.key").chmod(0o640)
    settings = f"port = {cluster.port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = ''\nfsync = off\n"
    files = "ssl = on\nssl_cert_file = 'drumline.crt'\nssl_key_file = 'drumline.key'\n"
    with (place / "data/postgresql.conf").open("a") as configuration:
        configuration.write(settings + files)
    (place / "data/pg_hba.conf").write_text("hostssl all all 127.0.0.1/32 trust\n")
    cluster._run("pg_ctl", "start", "--wait", "--log", str(place / "log"))
    yield cluster.port
    cluster.stop()


@pytest.fixture(scope="module")
def broker(folder: Path, authority: Authority) -> Iterator[int]:
    """A broker with nothing but TLS; its port."""
    port = free_port()
    log = folder / "redis.log"
    log.touch()
    (folder / "redis.conf").write_text(
        f"port 0\ntls-port {port}\ntls-auth-clients no\nbind 127.0.0.1\ndir {folder}\nlogfile {log}\nsave ''\n"
        f"tls-cert-file {authority.server_certificate}\ntls-key-file {authority.server_key}\n"
    )
    server = subprocess.Popen(["redis-server", str(folder / "redis.conf")])
    try:
        wait_until(lambda: "Ready to accept" in log.read_text(), "Redis accepts connections")
        yield port
    finally:
        server.kill()
        server.wait()


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The secret addresses of the application on a host whose database and broker are elsewhere."""
    folder = tmp_path_factory.mktemp("fleet")
    hosts = {"app1": {"fleet_address": "192.0.2.1"}, "data1": {"fleet_address": "192.0.2.2"}}
    groups = {"worker": ["app1"], "postgresql": ["data1"], "redis": ["data1"]}
    children = {group: {"hosts": dict.fromkeys(names)} for group, names in groups.items()}
    (folder / "hosts.yml").write_text(json.dumps({"all": {"hosts": hosts, "children": children}}))
    playbooks = Playbooks(folder, "app1", **SECRETS)
    secrets: dict[str, str] = playbooks.value("app_release", "app_release_secrets")
    return secrets | {"login": playbooks.value("postgresql", "postgresql_login")}


def asked(tmp_path: Path, rendered: dict[str, str], database: int, broker: int, authority: Path) -> dict[str, object]:
    """What each connection of the application answers when it trusts this authority."""
    addresses = {
        name: rendered[name]
        .replace(f"{rendered['login']}:", "drumline:")
        .replace("192.0.2.2:5432/drumline", f"127.0.0.1:{database}/postgres")
        .replace("app:secret-of-vault_redis_app_password@192.0.2.2:6379", f"127.0.0.1:{broker}")
        .replace("/etc/ssl/drumline-ca.crt", str(authority))
        for name in ("DATABASE_URL", "CELERY_BROKER_URL")
    }
    application = Application(tmp_path, addresses)
    said = subprocess.run(
        [PYTHON, "manage.py", "shell", "--verbosity=0", "--command", ASK],
        env=application.env,
        cwd=PROJECT / "app",
        capture_output=True,
        text=True,
        check=True,
    )
    answers: dict[str, object] = json.loads(said.stdout.splitlines()[-1])
    return answers


def test_every_connection_of_the_application_is_encrypted_and_verified(
    tmp_path: Path, rendered: dict[str, str], database: int, broker: int, authority: Authority
) -> None:
    answers = asked(tmp_path, rendered, database, broker, authority.certificate)

    assert set(answers.values()) == {True}, answers


def test_a_server_that_another_authority_vouches_for_gets_no_password_and_no_task(
    tmp_path: Path, rendered: dict[str, str], database: int, broker: int, folder: Path
) -> None:
    stranger = Authority(folder / "stranger", "127.0.0.1")
    answers = asked(tmp_path, rendered, database, broker, stranger.certificate)

    for name in ("of_django", "of_the_ledger", "of_the_listener", "of_celery"):
        assert "certificate verify failed" in str(answers[name]), answers
    assert answers["of_the_health_check"] is answers["of_the_health_check_to_the_broker"] is False


def test_plain_text_gets_in_nowhere(database: int, broker: int) -> None:
    plain = subprocess.run(
        ["psql", f"host=127.0.0.1 port={database} user=drumline dbname=postgres sslmode=disable", "-c", "select 1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "no encryption" in plain.stderr
    said = subprocess.run(["redis-cli", "-p", str(broker), "ping"], capture_output=True, text=True, check=False)
    assert "PONG" not in said.stdout


def test_flower_reads_the_length_of_a_queue_from_a_broker_that_it_verifies(broker: int, authority: Authority) -> None:
    code = (
        "import asyncio\nfrom flower.utils.broker import Broker\n"
        f"broker = Broker('rediss://127.0.0.1:{broker}/0', broker_use_ssl=False, broker_options={{}})\n"
        "print(asyncio.run(broker.queues(['high'])))"
    )
    environment = {"PATH": f"{BIN}:{os.environ['PATH']}"}
    command = [PYTHON, "-c", code]
    trusting = environment | {"SSL_CERT_FILE": str(authority.certificate)}
    said = subprocess.run(command, env=trusting, capture_output=True, text=True, check=False)
    assert "'messages': 0" in said.stdout, said.stderr

    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert "certificate verify failed" in said.stderr


def test_the_daily_look_reads_the_certificates_that_the_database_and_the_broker_show(
    database: int, broker: int, authority: Authority
) -> None:
    watched = {
        "the database": f"postgres:127.0.0.1:{database}",
        "the broker": f"127.0.0.1:{broker}",
        "the private authority": str(authority.certificate),
    }
    program = ANSIBLE / "roles/tls/files/drumline-certificate"
    arguments = [part for pair in watched.items() for part in pair]

    # They are for 30 days.
    warned = subprocess.run([program, "31", "7", *arguments], capture_output=True, text=True, check=True)
    failed = subprocess.run([program, "60", "31", *arguments], capture_output=True, text=True, check=False)

    for name, line in zip(watched, warned.stdout.splitlines(), strict=True):
        assert line.startswith(f"<4>The certificate of {name} expires in "), warned
    assert failed.returncode == 1
    assert failed.stdout.count("<3>") == 3
