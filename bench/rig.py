"""One Redis, one PostgreSQL with its default durability, and the application's processes, for one benchmark."""

import contextlib
import json
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.support.application import Application, Process
from tests.support.paths import BIN
from tests.support.servers import PostgreSQL, Redis

PROJECT = Path(__file__).parent / "project"


class DurablePostgreSQL(PostgreSQL):
    """It waits for the disk at every commit, as a production server does."""

    def start(self, more: str = "") -> None:
        options = (
            f"-p {self.port} -k {self.folder} -c listen_addresses= -c shared_buffers=1GB -c max_wal_size=4GB {more}"
        )
        self._run("pg_ctl", "start", "--wait", "--log", str(self.folder / "log"), "--options", options)


class EverysecRedis(Redis):
    """It writes to disk each second, as the redis role sets it."""

    def start(self) -> None:
        super().start()
        self.client.config_set("appendfsync", "everysec")


class Rig:
    """The servers, with a migrated database for each name that is asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.postgresql = DurablePostgreSQL(Path(tempfile.mkdtemp(prefix="drumline-bench-")))
        self.redis = EverysecRedis(folder)
        self.numbers = iter(range(10**6))

    def __enter__(self) -> "Rig":
        self.postgresql.create()
        self.postgresql.start()
        self.redis.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.redis.kill()
        self.postgresql.stop()
        shutil.rmtree(self.postgresql.folder)

    @contextlib.contextmanager
    def application(self, mode: str, database: str = "postgres") -> Iterator[Application]:
        """Yield the application in one mode, on an empty broker."""
        self.redis.client.flushall()
        folder = self.folder / f"application-{next(self.numbers)}"
        folder.mkdir()
        env = {
            "DATABASE_URL": self.postgresql.url(database),
            "CELERY_BROKER_URL": self.redis.url,
            "PYTHONPATH": str(PROJECT),
            "DJANGO_SETTINGS_MODULE": "bench_settings",
            "BENCH_MODE": mode,
            "LOG_LEVEL": "WARNING",
        }
        application = Application(folder, env)
        application.manage("migrate", "--verbosity=0")
        try:
            yield application
        finally:
            application.stop()

    def sql(self, statement: str, database: str = "postgres") -> list[tuple]:
        return self.postgresql.execute(database, statement)


def worker(application: Application, queue: str, *, number: int = 1, concurrency: int = 1) -> Process:
    return application.start(
        *(str(BIN / "celery"), "--app", "config", "worker", "--queues", queue, "--loglevel", "WARNING"),
        *(
            "--hostname",
            f"{queue}-{number}@%h",
            "--concurrency",
            str(concurrency),
            "--without-gossip",
            "--without-mingle",
        ),
    )


def shell(application: Application, code: str) -> str:
    return application.manage("shell", "--no-imports", "--command", code).stdout.strip()


def interleaved(runs: int, variants: dict[str, Callable[[], float]]) -> dict[str, float]:
    """Run every variant in turn, so many times, and return each one's median."""
    figures: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(runs):
        for name, run in variants.items():
            figures[name].append(run())
    return {name: statistics.median(values) for name, values in figures.items()}


class Table:
    """Rows of (what, must hold, got, beside it), printed as they come and written as JSON at the end."""

    WIDTHS = (46, 22, 24)

    def __init__(self) -> None:
        self.rows: list[dict[str, str]] = []
        self._print("what", "must hold", "got", "beside it")

    def add(self, what: str, must_hold: str, got: str, beside: str) -> None:
        self.rows.append({"what": what, "must hold": must_hold, "got": got, "beside it": beside})
        self._print(what, must_hold, got, beside)

    def _print(self, *cells: str) -> None:
        padded = [cell.ljust(width) for cell, width in zip(cells, self.WIDTHS, strict=False)]
        print(*padded, *cells[len(self.WIDTHS) :], flush=True)

    def write(self, path: Path) -> None:
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(self.rows, indent=2) + "\n")


def revision() -> str:
    return subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()
