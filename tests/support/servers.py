"""Real servers, each in a folder of its own and gone after the test."""

import json
import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import psycopg
import redis

from tests.support.ports import free_port
from tests.support.waiting import wait_until


class Redis:
    """A broker that writes everything to disk before it answers, so that kill -9 loses nothing by itself."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.client = redis.Redis(port=self.port, decode_responses=True)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(
            [
                *("redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)),
                *("--appendonly", "yes", "--appendfsync", "always", "--save", "", "--maxmemory-policy", "noeviction"),
            ],
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        wait_until(self._answers, "Redis answers")

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.ConnectionError:
            return False

    def kill(self) -> None:
        if self.process:
            self.client.close()
            self.process.kill()
            self.process.wait()
            self.process = None


class PostgreSQL:
    """A cluster on a unix socket; PostgreSQL refuses to run as root, so root hands it to `postgres`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.bin = max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
        self.user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []

    def create(self) -> None:
        if self.user:
            shutil.chown(self.folder, "postgres", "postgres")
        self._run("initdb", "--auth=trust", "--username=drumline", "--no-sync", "--encoding=UTF8", "--locale=C")

    def _run(self, program: str, *args: str) -> None:
        subprocess.run(
            [*self.user, str(self.bin / program), "--pgdata", str(self.folder / "data"), *args],
            check=True,
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
        )

    def start(self) -> None:
        options = f"-p {self.port} -k {self.folder} -c listen_addresses= -c fsync=off"
        self._run("pg_ctl", "start", "--wait", "--log", str(self.folder / "log"), "--options", options)

    def stop(self) -> None:
        self._run("pg_ctl", "stop", "--wait", "--mode=immediate")

    def url(self, database: str) -> str:
        return f"postgresql://drumline@/{database}?host={self.folder}&port={self.port}"

    def execute(self, database: str, statement: str) -> list[tuple[Any, ...]]:
        url = f"host={self.folder} port={self.port} user=drumline dbname={database}"
        with psycopg.connect(url, autocommit=True) as connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []


class PgBouncer:
    """A pooler of transactions before a cluster; each transaction gets another of its two connections."""

    def __init__(self, cluster: PostgreSQL, *, ignoring: str = "") -> None:
        self.cluster = cluster
        self.port = free_port()
        # In the cluster's folder, which `postgres` may read; like PostgreSQL it refuses to run as root.
        self.folder = cluster.folder / f"pgbouncer-{self.port}"
        self.ignoring = ignoring
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.folder.mkdir()
        (self.folder / "users").write_text('"drumline" ""\n')
        lines = {
            "listen_addr": "127.0.0.1",
            "listen_port": self.port,
            "unix_socket_dir": "",
            "auth_type": "trust",
            "auth_file": self.folder / "users",
            "logfile": self.folder / "log",
            "pool_mode": "transaction",
            "default_pool_size": 2,
            "server_round_robin": 1,
            "ignore_startup_parameters": self.ignoring,
        }
        target = f"* = host={self.cluster.folder} port={self.cluster.port}"
        settings = "\n".join(f"{name} = {value}" for name, value in lines.items())
        config = self.folder / "pgbouncer.ini"
        config.write_text(f"[databases]\n{target}\n[pgbouncer]\n{settings}\n")
        if self.cluster.user:
            shutil.chown(self.folder, "postgres", "postgres")
        self.process = subprocess.Popen(
            [*self.cluster.user, "/usr/sbin/pgbouncer", "--quiet", str(config)], start_new_session=True
        )
        wait_until(self._listens, "PgBouncer listens")

    def _listens(self) -> bool:
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None

    def url(self, database: str) -> str:
        return f"postgresql://drumline@127.0.0.1:{self.port}/{database}"


class RabbitMQ:
    """One node with its own epmd, in a folder; RabbitMQ refuses to be another user's, so root hands it over."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self.epmd_port, self.dist_port = free_port(), free_port(), free_port()
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}//"
        self.user = ["setpriv", "--reuid=rabbitmq", "--regid=rabbitmq", "--clear-groups"] if os.geteuid() == 0 else []
        if self.user:
            shutil.chown(folder, "rabbitmq", "rabbitmq")
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "ERL_EPMD_PORT": str(self.epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"faults{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self.dist_port),
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq"),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
        }
        self.epmd = self._popen("epmd", "-port", str(self.epmd_port))
        self.process: subprocess.Popen[bytes] | None = None

    def _popen(self, *args: str) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [*self.user, *args],
            cwd=self.folder,
            env=self.env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def start(self) -> None:
        self.process = self._popen("/usr/lib/rabbitmq/bin/rabbitmq-server")
        wait_until(self._answers, "RabbitMQ answers", seconds=90)

    def _answers(self) -> bool:
        import amqp

        try:
            with amqp.Connection(f"127.0.0.1:{self.port}", connect_timeout=2, read_timeout=2):
                return True
        except (OSError, amqp.AMQPError):
            return False

    def queues(self) -> list[dict[str, Any]]:
        """Return every queue, with what RabbitMQ 4.3 looks at."""
        listed = subprocess.run(
            [
                *(*self.user, "/usr/lib/rabbitmq/bin/rabbitmqctl", "--node", self.env["RABBITMQ_NODENAME"], "--quiet"),
                *("list_queues", "--formatter", "json", "name", "durable", "exclusive", "auto_delete"),
            ],
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            text=True,
            check=True,
        )
        queues: list[dict[str, Any]] = json.loads(listed.stdout)
        return queues

    def kill(self) -> None:
        if self.process:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def remove(self) -> None:
        self.kill()
        self.epmd.kill()
        self.epmd.wait()
