"""What Celery's pools do not do alike: which of them run under the ledger, and how each of them ends."""

import os
import threading
import time
from collections.abc import Callable
from functools import wraps
from importlib import import_module
from types import SimpleNamespace
from typing import Any

from billiard.einfo import ExceptionInfo
from celery import concurrency, platforms

# Pools that execute a task through `Task.__trace__`, where the ledger stands, and were tested with it. Not eventlet: psycopg
# does not yield to it, and a task that waits for another one's lock in the database would hold both for ever.
SUPPORTED = {
    "celery.concurrency.prefork": "prefork",
    "celery.concurrency.solo": "solo",
    "celery.concurrency.thread": "threads",
    "celery.concurrency.gevent": "gevent",
}
# Exit status of a worker that left its running tasks to others (celery.platforms.EX_FAILURE).
EXIT_STATUS = 1
# Seconds between two looks of a stopping worker at its processes.
LOOK = 0.05


def refusal(pool: Any) -> str:
    """Return why a pool, by Celery's name or as its class, cannot run durable tasks; empty when it can."""
    classes = concurrency.get_implementation(pool).__mro__
    if any(each.__module__ in SUPPORTED for each in classes):
        return ""
    return (
        f"Not started: Drumline does not support the pool {classes[0].__module__}:{classes[0].__name__}, whose tasks "
        f"might run without a claim. Start the worker with --pool set to one of {', '.join(SUPPORTED.values())}."
    )


def has_processes(pool: Any) -> bool:
    """Return whether the pool runs tasks in processes of their own."""
    return any(each.__module__ == "celery.concurrency.prefork" for each in type(pool).__mro__)


def blocks_the_loop(pool: Any) -> bool:
    """Return whether a task runs in the event loop's place."""
    return any(each.__module__ == "celery.concurrency.solo" for each in type(pool).__mro__)


def size(pool: Any) -> int:
    """Return for how many tasks at once there is room; gevent counts what runs as its number of processes."""
    return int(pool._pool.size if pool.is_green and hasattr(pool._pool, "_semaphore") else pool.num_processes)  # noqa: SLF001


def stop_promptly(pool: Any) -> None:
    """Have a pool of processes stop once its tasks have ended, and not a second and a half later.

    billiard's processes sleep for a second before they end, for a parent that would end them in that time, and the main
    process waits for half a second for what they have not read. It also looks only twice a second whether they have
    ended, and joins a thread that sleeps as long. A deploy would wait for all of this with each instance.
    """
    asynpool: Any = import_module("celery.concurrency.asynpool")
    prefork: Any = import_module("celery.concurrency.prefork")
    asynpool.sleep, prefork.time = _sleep_briefly, SimpleNamespace(**{**vars(time), "sleep": _sleep_briefly})
    process_class = asynpool.Worker
    stop, end = pool.on_stop, process_class._do_exit  # noqa: SLF001

    @wraps(stop)
    def on_stop() -> None:
        processes = pool._pool  # noqa: SLF001
        stop()
        if processes is not None and pool._pool is None:  # noqa: SLF001
            # It has waited for each of them: there is nothing left to end.
            processes._terminate.cancel()  # noqa: SLF001

    @wraps(end)
    def _do_exit(process: Any, pid: int, exitcode: int | None, exc: BaseException | None = None) -> None:
        if exitcode or exc is not None:
            end(process, pid, exitcode, exc)
        try:
            process.on_exit(pid, os.EX_OK)
        finally:
            os._exit(os.EX_OK)

    pool.on_stop = on_stop
    process_class._do_exit = _do_exit  # noqa: SLF001


def _sleep_briefly(seconds: float) -> None:
    time.sleep(min(seconds, LOOK))


def report_errors(pool: Any) -> None:
    """Have a pool without processes report what a task's execution raises, as prefork does.

    Celery's solo pool lets it end the worker, and the others drop it: the request is then never acknowledged, and with
    a prefetch of one nothing more is received.
    """
    apply = pool.on_apply

    @wraps(apply)
    def on_apply(
        target: Callable[..., Any],
        args: Any = None,
        kwargs: Any = None,
        callback: Any = None,
        error_callback: Any = None,
        **options: Any,
    ) -> Any:
        def execute(*args: Any, **kwargs: Any) -> Any:
            try:
                return target(*args, **kwargs)
            except Exception:  # noqa: BLE001  whatever it is, the request must learn of it
                return ExceptionInfo()

        def ended(result: Any) -> Any:
            return (error_callback if isinstance(result, ExceptionInfo) else callback)(result)

        return apply(execute, args, kwargs, callback=ended, **options)

    pool.on_apply = on_apply


def leave_on_quit(leave: Callable[[], None]) -> None:
    """Have SIGQUIT put back what runs and end the process, where Celery has no process to kill.

    In a thread of its own: the signal may interrupt the main thread within a task.
    """

    def leave_now() -> None:
        try:
            leave()
        finally:
            os._exit(EXIT_STATUS)

    platforms.signals["QUIT"] = lambda *_: threading.Thread(target=leave_now, name="drumline-leaves").start()
