"""What one host's processes cost while nothing is to do: processor, memory, statements and commands."""

import time

from bench.procfs import megabytes, seconds
from bench.rig import Rig, Table, worker
from bench.throughput import wait
from tests.support.application import Application, Process

# Instances and children of ansible/group_vars/all/processes.yml.
QUEUES = {"high": (2, 2), "default": (2, 2), "low": (2, 1)}
SETTLED, WINDOW = 30.0, 60.0
STATEMENTS = """
    SELECT sum(calls) OVER ()::float, calls, regexp_replace(query, '\\s+', ' ', 'g') FROM pg_stat_statements
    WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND query NOT LIKE '%pg_stat_statements%'
    ORDER BY calls DESC
"""


def run(rig: Rig, table: Table, _runs: int) -> None:
    rig.postgresql.stop()
    rig.postgresql.start("-c shared_preload_libraries=pg_stat_statements")
    rig.sql("CREATE EXTENSION pg_stat_statements")
    with rig.application("ledger") as application:
        processes = start(application)
        wait(lambda: rig.redis.client.scard("_kombu.binding.celery.pidbox") == sum(n for n, _ in QUEUES.values()))
        time.sleep(SETTLED)
        rig.sql("SELECT pg_stat_statements_reset()")
        rig.redis.client.config_resetstat()
        before = {name: used(each) for name, each in processes.items()}
        time.sleep(WINDOW)
        after = {name: used(each) for name, each in processes.items()}
        statements = rig.sql(STATEMENTS)
        commands = {
            name.removeprefix("cmdstat_"): stat["calls"] for name, stat in rig.redis.client.info("commandstats").items()
        }
        for name, each in processes.items():
            busy = 1000 * (after[name] - before[name]) / WINDOW
            memory = sum(megabytes(process.popen.pid) for process in each)
            table.add(
                f"idle, {name}", "", f"{busy:.1f} ms of a core a second", f"{memory:.0f} MB in {len(each)} instances"
            )
    most = "; ".join(f"{calls / WINDOW:.2f} {query[:80]}" for _, calls, query in statements[:8])
    table.add("idle, PostgreSQL", "", f"{statements[0][0] / WINDOW:.1f} statements a second", most)
    most = "; ".join(f"{n / WINDOW:.2f} {name}" for name, n in sorted(commands.items(), key=lambda item: -item[1])[:8])
    table.add("idle, Redis", "", f"{sum(commands.values()) / WINDOW:.1f} commands a second", most)


def start(application: Application) -> dict[str, list[Process]]:
    # What says that the web process listens is in its log.
    application.env["LOG_LEVEL"] = "INFO"
    processes = {"web": [application.web(), application.web()], "relay": [application.relay()]}
    processes["beat"] = [application.beat()]
    for queue, (instances, children) in QUEUES.items():
        processes[f"worker of {queue}"] = [
            worker(application, queue, number=number, concurrency=children) for number in range(instances)
        ]
    return processes


def used(processes: list[Process]) -> float:
    return sum(seconds(process.popen.pid) for process in processes)
