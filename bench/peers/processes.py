"""A peer's processes on the servers of a rig."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from redis import Redis

from bench.procfs import megabytes, tree
from bench.rig import Rig
from tests.support.application import Process
from tests.support.paths import PROJECT

FOLDER = Path(__file__).parent / "project"
# What ansible/bootstrap --peers makes.
PYTHON = PROJECT / ".cache" / "peers" / "bin" / "python"
# In the order of the table; each has an adapter of that name.
PEERS = (
    *("drumline", "celery", "celery_tuned"),
    *("procrastinate", "django_ox", "django_tasks_db"),
    *("huey", "dramatiq", "rq", "taskiq"),
)
SCHEMA = """
CREATE TABLE bench_row (id int PRIMARY KEY, count int NOT NULL);
INSERT INTO bench_row SELECT n, 0 FROM generate_series(0, 9999) n;
CREATE TABLE bench_run (id bigserial PRIMARY KEY, number int, ended timestamptz);
"""


class Peer:
    """One peer, with a database and a Redis database of its own."""

    def __init__(self, rig: Rig, key: str) -> None:
        self.rig, self.key = rig, key
        self.folder = rig.folder / key
        self.folder.mkdir()
        self.ran = self.folder / "ran"
        self.workers: list[Process] = []
        self.beside: list[Process] = []
        self.feeder: subprocess.Popen[str] | None = None
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "PYTHONPATH": f"{FOLDER}:{PROJECT / 'drumline' / 'src'}",
            "DJANGO_SETTINGS_MODULE": "settings",
            "PGHOST": str(rig.postgresql.folder),
            "PGPORT": str(rig.postgresql.port),
            "PGUSER": "drumline",
            "PGDATABASE": key,
            "REDIS_URL": f"{rig.redis.url.removesuffix('/0')}/{PEERS.index(key)}",
            "BENCH_PEER": key,
            "BENCH_RAN": str(self.ran),
            "BENCH_HEARD": str(self.folder / "heard"),
        }
        rig.sql(f"CREATE DATABASE {key}")
        self._call("manage.py", "migrate", "--verbosity", "0")
        self.sql(SCHEMA)
        rig.sql(f"ALTER DATABASE {key} RENAME TO {key}_empty")
        rig.sql(f"CREATE DATABASE {key} TEMPLATE {key}_empty")
        self.about = self.drive("describe")

    def __enter__(self) -> "Peer":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        return self.rig.sql(statement, self.key)

    def fresh(self) -> None:
        """Empty everything that the peer has."""
        self.stop()
        self.rig.sql(f"DROP DATABASE {self.key} WITH (FORCE)")
        self.rig.sql(f"CREATE DATABASE {self.key} TEMPLATE {self.key}_empty")
        with Redis.from_url(self.env["REDIS_URL"]) as client:
            client.flushdb()
        for path in (self.ran, Path(self.env["BENCH_HEARD"])):
            path.unlink(missing_ok=True)
        self.ran.touch()

    def drive(self, *args: object) -> dict[str, Any]:
        """Have a sender do something, and return what it says of it."""
        return json.loads(self._call("drive.py", *map(str, args)).splitlines()[-1])

    def feed(self, first: int, count: int | None = None) -> None:
        """Send `effect` for so many numbers, or from now on for one number a second, from one process."""
        if not self.feeder:
            with (self.folder / "feeder.log").open("w") as log:
                pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": log}
                command = [str(PYTHON), "drive.py", "feed"]
                self.feeder = subprocess.Popen(command, cwd=FOLDER, env=self.env, text=True, **pipes)
        self.feeder.stdin.write(f"{first} {count or ''}\n")
        self.feeder.stdin.flush()
        if count and not self.feeder.stdout.readline():
            raise RuntimeError(f"{self.key}: the sender ended\n{self.logs()}")

    def _call(self, *args: str) -> str:
        done = subprocess.run(
            [str(PYTHON), *args], cwd=FOLDER, env=self.env, capture_output=True, text=True, timeout=600, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{self.key}: {' '.join(args)} failed:\n{done.stderr[-3000:]}")
        return done.stdout

    def start(self, queue: str = "default", slots: int = 2) -> None:
        """Start workers for so many tasks of a queue at a time, and what must run beside them."""
        if not self.beside:
            self.beside = [self._process(command) for command in self.about["beside"]]
        self.workers += [self._process(command) for command in self.about["workers"][queue][str(slots)]]

    def _process(self, command: list[str]) -> Process:
        log = self.folder / f"{len(list(self.folder.glob('*.log')))}.log"
        return Process(command, self.env, FOLDER, log)

    def kill(self) -> None:
        """Kill -9 all workers, their main processes and their children."""
        kill(self.workers)
        self.workers = []

    def stop(self) -> None:
        self.kill()
        kill(self.beside)
        self.beside = []
        if self.feeder:
            self.feeder.kill()
            self.feeder.communicate()
            self.feeder = None

    def count(self) -> int:
        """Return how many tasks have run."""
        return self.ran.stat().st_size

    def memory(self) -> float:
        """Return the megabytes of all its processes; what they share is divided among them."""
        return sum(megabytes(process.popen.pid) for process in (*self.workers, *self.beside))

    def logs(self) -> str:
        newest = sorted(self.folder.glob("*.log"), key=lambda path: path.stat().st_mtime)[-3:]
        return "\n".join(f"--- {path.name}\n{path.read_text(errors='replace')[-2000:]}" for path in newest)


def kill(processes: list[Process]) -> None:
    # A main process that is stopped does not replace a child while the children are counted.
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            process.popen.send_signal(signal.SIGSTOP)
    for pid in [pid for process in processes for pid in tree(process.popen.pid)]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for process in processes:
        process.stop()


def available() -> tuple[str, ...]:
    """Return the peers that the environment holds; say which it does not."""
    if not PYTHON.exists():
        sys.exit("The peers are not installed. Run: ansible/bootstrap --no-hosts --peers test")
    has_ox = subprocess.run([str(PYTHON), "-c", "import django_ox"], capture_output=True, check=False).returncode == 0
    if not has_ox:
        print("django-ox is left out: it needs Python 3.12, and this machine has an older one only")
    return tuple(key for key in PEERS if has_ox or key != "django_ox")
