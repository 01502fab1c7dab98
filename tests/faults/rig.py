"""A system of real processes to do harm to, with Drumline or with stock Celery, and the count of what came of it."""

import json
import os
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Self

from celery import Celery

from tests.support.application import WEB, Application, Process
from tests.support.paths import BIN, PYTHON
from tests.support.ports import free_port
from tests.support.servers import PostgreSQL, RabbitMQ, Redis
from tests.support.waiting import wait_until

Mode = Literal["drumline", "stock"]
PROBE = Path(__file__).parent / "probe"

SCHEMA = """
    CREATE TABLE sent (task_id text PRIMARY KEY, at timestamptz DEFAULT clock_timestamp());
    CREATE TABLE run (
        id bigserial PRIMARY KEY, task_id text, parent int, pid int,
        started timestamptz DEFAULT clock_timestamp(), ended timestamptz
    );
    CREATE INDEX ON run (task_id);
    CREATE TABLE effect (task_id text PRIMARY KEY, at timestamptz DEFAULT clock_timestamp());
    CREATE TABLE scheduled (task_id text PRIMARY KEY, entry text, at timestamptz DEFAULT clock_timestamp());
    CREATE TABLE killed (parent int PRIMARY KEY, at timestamptz);
    CREATE TABLE outage (at timestamptz);
"""
# A run without an end was over when its worker was killed, or failed when it wanted to write to a database that was gone.
OVERLAPS = """
    WITH span AS (
        SELECT run.id, task_id, started,
            COALESCE(ended, killed.at, (SELECT min(at) FROM outage WHERE at > started), 'infinity') AS ended
        FROM run LEFT JOIN killed USING (parent)
    )
    SELECT count(*) FROM span AS one JOIN span AS other USING (task_id)
    WHERE one.id < other.id AND one.started < other.ended AND other.started < one.ended
"""


class System:
    """Servers, workers, relay and web process of one run; use it as a context."""

    def __init__(
        self,
        mode: Mode,
        *,
        cluster: PostgreSQL,
        database: str,
        rabbitmq: bool = False,
        pause: float,
        visibility: int = 20,
        **env: str,
    ) -> None:
        self.mode = mode
        # Seconds that a visitor leaves between requests.
        self.pause = pause
        self.folder = Path(tempfile.mkdtemp(prefix=f"drumline-{mode}-"))
        self.folder.chmod(0o711)
        self.cluster = cluster
        self.database = database
        (self.folder / "broker").mkdir()
        self.broker: Any = (RabbitMQ if rabbitmq else Redis)(self.folder / "broker")
        self.application = Application(
            self.folder,
            {
                "DATABASE_URL": cluster.url(database),
                "CELERY_BROKER_URL": self.broker.url,
                "CELERY_VISIBILITY_TIMEOUT": str(visibility),
                "LOG_LEVEL": "INFO",
                "PYTHONPATH": str(PROBE),
                "DJANGO_SETTINGS_MODULE": "faults_settings" if mode == "drumline" else "faults_stock",
                **env,
            },
        )
        self.workers: dict[str, Process] = {}

    def __enter__(self) -> Self:
        self.sql(SCHEMA)
        self.broker.start()
        if self.mode == "drumline":
            self.relay()
        return self

    def __exit__(self, *_: object) -> None:
        self.application.stop()
        self.broker.kill()
        if isinstance(self.broker, RabbitMQ):
            self.broker.remove()
        if keep := os.environ.get("FAULTS_KEEP"):
            shutil.copytree(
                self.folder, Path(keep) / self.folder.name, ignore=shutil.ignore_patterns("broker", "*.sock")
            )
        shutil.rmtree(self.folder, ignore_errors=True)

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        return self.cluster.execute(self.database, statement)

    def value(self, statement: str) -> Any:
        return self.sql(statement)[0][0]

    # ---- processes

    def relay(self) -> Process:
        return self.application.start(PYTHON, "manage.py", "relay")

    def worker(self, name: str = "one", *, concurrency: int = 1, ready: bool = True, **env: str) -> Process:
        """Start the instance; a former one under the same name must be gone."""
        worker = self.application.start(
            *(str(BIN / "celery"), "-A", "config", "worker", "--queues", "default", "--hostname", f"{name}@%h"),
            *("--concurrency", str(concurrency), "--loglevel", "INFO"),
            **env,
        )
        self.workers[name] = worker
        if ready:
            worker.wait_for(" ready.", seconds=60)
        return worker

    def kill(self, name: str) -> None:
        """kill -9 of the main process; its children follow by themselves."""
        worker = self.workers[name]
        worker.popen.kill()
        worker.popen.wait()
        self.sql(f"INSERT INTO killed VALUES ({worker.popen.pid}, clock_timestamp())")

    def works(self, name: str) -> bool:
        """Say whether the worker's main process knows that a child has begun a task: later than the task itself does."""
        with Celery(broker=self.broker.url) as asker:
            answers = asker.control.inspect(timeout=1).active() or {}
        return any(tasks for worker, tasks in answers.items() if worker.startswith(f"{name}@"))

    def web(self) -> None:
        application = self.application
        application.web_port = free_port()
        # The application's own access log would be longer than everything else.
        application.start(*WEB, "--bind", f"127.0.0.1:{application.web_port}", "--preload")

        def answers() -> bool:
            try:
                return application.get("/faults/alive").status == 200
            except OSError:
                return False

        wait_until(answers, "the web process answers")

    # ---- work

    def send(self, task: str, *args: Any) -> str:
        return self.send_all([(task, args, None)])[0]

    def send_many(self, task: str, *args: Any, count: int) -> None:
        self.send_all([(task, args, count)])

    def send_all(
        self, orders: Sequence[tuple[str, Sequence[Any], int | None]], *, check: bool = True, **env: str
    ) -> list[str]:
        """Send tasks with their arguments and how many of each, from one process; return the ids of the single ones."""
        seconds = 120 + sum(count or 1 for _, _, count in orders) / 100
        sent = self.application.manage("faults_send", json.dumps(orders), check=check, seconds=seconds, **env)
        return sent.stdout.split()

    @contextmanager
    def visitors(self, task: str, *args: Any, number: int = 4) -> Iterator["Visitors"]:
        """Let people use the site for as long as the context lasts."""
        visitors = Visitors(self.application, {"task": task, "args": args}, number, self.pause)
        try:
            yield visitors
        finally:
            visitors.stop()

    # ---- what came of it

    def lost(self) -> int:
        return self.value("SELECT count(*) FROM sent LEFT JOIN effect USING (task_id) WHERE effect.task_id IS NULL")

    def effects(self) -> int:
        return self.value("SELECT count(*) FROM effect")

    def drained(self, *, seconds: float, quiet: float = 40) -> float:
        """Wait until each task had its effect, or until nothing has happened for `quiet` seconds; return the time."""
        begun = changed = time.monotonic()
        seen = None
        while (lost := self.lost()) and time.monotonic() - begun < seconds:
            if lost != seen:
                seen, changed = lost, time.monotonic()
            elif time.monotonic() - changed > quiet:
                break
            time.sleep(0.5)
        return time.monotonic() - begun

    def states(self) -> dict[str, int]:
        """Return the number of rows of the ledger by state, once the closes have been written."""
        names = ("queued", "running", "finished", "dead", "discarded")
        return {names[s]: n for s, n in self.sql("SELECT state, count(*) FROM drumline_ledger GROUP BY state")}

    def closed(self, *, seconds: float = 30) -> None:
        """Wait until the ledger holds nothing that is not over."""
        if self.mode == "drumline":
            open_ = "SELECT count(*) = 0 FROM drumline_ledger WHERE state IN (0, 1)"
            try:
                wait_until(lambda: self.value(open_), "the ledger is empty of open rows", seconds=seconds)
            except AssertionError:
                rows = self.sql(
                    "SELECT id, name, state, attempt, due_at, published_at, started_at, worker_id, error, history "
                    "FROM drumline_ledger WHERE state IN (0, 1) LIMIT 5"
                )
                raise AssertionError(f"open rows: {rows}\n{self.logs()}") from None

    def outcome(self) -> dict[str, int]:
        return {
            "sent": self.value("SELECT count(*) FROM sent"),
            "lost": self.lost(),
            "overlaps": self.value(OVERLAPS),
            "reruns": self.value("SELECT count(*) - count(DISTINCT task_id) FROM run"),
        }

    def logs(self, *, lines: int = 40) -> str:
        """Return the ends of all logs."""
        return "\n".join(
            f"--- {' '.join(process.args[1:5])} ({process.popen.poll()})\n"
            + "\n".join(process.text().splitlines()[-lines:])
            for process in self.application.processes
        )


class Visitors:
    """Threads that send requests and remember how each was answered."""

    def __init__(self, application: Application, body: Any, number: int, pause: float) -> None:
        self.statuses: Counter[int] = Counter()
        self.seconds: list[float] = []
        self._application, self._body, self._pause = application, body, pause
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._visit, daemon=True) for _ in range(number)]
        for thread in self._threads:
            thread.start()

    def _visit(self) -> None:
        while not self._stop.wait(self._pause):
            begun = time.monotonic()
            try:
                status = self._application.post("/faults/send", self._body).status
            except OSError:
                status = 0
            with self._lock:
                self.statuses[status] += 1
                self.seconds.append(time.monotonic() - begun)

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=60)

    def answered(self) -> int:
        return self.statuses[201]

    def refused(self) -> int:
        return sum(self.statuses.values()) - self.statuses[201]

    def percentile(self, share: float) -> float:
        """Return the seconds within which this share of the requests was answered."""
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
