"""Tasks with an effect that a test can see, and a moment that it can choose."""

import os
import signal
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from celery import chain, chord, shared_task
from celery.exceptions import SoftTimeLimitExceeded
from celery.signals import task_prerun
from celery.worker.control import control_command
from django.contrib.auth import get_user_model
from django.db import transaction

from apps.reports import pdf
from drumline.worker import watchdog

# No setting: nobody needs another time, but a test that waits for it.
watchdog.STUCK = float(os.environ.get("PROBE_STUCK", watchdog.STUCK))


@control_command()
def stand_still(_state) -> None:
    """Hold the event loop, as a deadlock in a library does."""
    time.sleep(60)


@shared_task(name="probe.hold")
def hold(folder: str, name: str) -> None:
    """Say that it runs, stay until the test opens the gate, and leave one line as its effect."""
    place = Path(folder)
    (place / f"{name}.started").touch()
    deadline = time.monotonic() + 120
    while not (place / f"{name}.gate").exists():
        if time.monotonic() > deadline:
            raise TimeoutError(name)
        time.sleep(0.02)
    with (place / f"{name}.effects").open("a") as effects:
        effects.write("done\n")


@shared_task(name="probe.count_users")
def count_users() -> int:
    """Use the database."""
    return get_user_model().objects.count()


@shared_task(name="probe.note")
def note(folder: str, name: str) -> str:
    """Leave one line each time it runs; return the name."""
    with (Path(folder) / f"{name}.effects").open("a") as effects:
        effects.write("done\n")
    return name


@shared_task(name="probe.note_all")
def note_all(results: list[str], folder: str) -> None:
    """Leave one line for all the results together."""
    note(folder, "+".join(sorted(results)))


@shared_task(name="probe.note_error")
def note_error(request, _error, _traceback, folder: str) -> None:
    """Leave a line for a task that failed."""
    note(folder, f"error-{request.id}")


@shared_task(name="probe.fail")
def fail(words: str) -> None:
    """Fail for good."""
    raise RuntimeError(words)


@shared_task(name="probe.die", max_attempts=1)
def die(token: str) -> None:  # noqa: ARG001  it is there to be seen, or not
    """End the process without a word, as the kernel does when memory is short."""
    os._exit(9)


@shared_task(name="probe.retry_in_a_transaction", bind=True, max_retries=2)
def retry_in_a_transaction(self, folder: str, name: str) -> None:
    """Fail twice inside a transaction, and succeed the third time."""
    note(folder, f"{name}.attempts")
    with transaction.atomic():
        get_user_model().objects.count()
        if self.request.retries < 2:
            raise self.retry(countdown=0.3)
    note(folder, name)


@shared_task(name="probe.replace_itself", bind=True)
def replace_itself(self, folder: str, names: list[str]) -> None:
    """Go on as another task, or as a chord of several."""
    if len(names) == 1:
        raise self.replace(note.si(folder, names[0]))
    raise self.replace(chord([note.si(folder, name) for name in names], note_all.s(folder)))


@shared_task(name="probe.fail_unspeakably")
def fail_unspeakably(how: str) -> None:
    """Fail with an error that no database takes as it is, or that has no text at all."""
    if how == "speechless":
        raise SpeechlessError
    raise ValueError({"nul": "a\0b", "surrogate": "caf\udce9.csv", "long": "x" * 3_000_000}[how])


class SpeechlessError(Exception):
    """An error whose text raises."""

    def __str__(self) -> str:
        """Raise, as the error of a library that formats what it does not have."""
        raise RuntimeError("no words")

    __repr__ = __str__


@shared_task(name="probe.retry_once", bind=True, max_retries=1)
def retry_once(self, folder: str, name: str, headers: str = "") -> None:
    """Succeed the second time."""
    if not self.request.retries:
        odd = {"date": {"at": datetime.now(UTC)}, "refused": {"at": {(1, 2): 3}}, "": None}[headers]
        raise self.retry(countdown=0, headers=odd)
    note(folder, name)


@shared_task(name="probe.replace_by_a_chain", bind=True)
def replace_by_a_chain(self, folder: str, name: str) -> None:
    """Go on as two tasks, each of which succeeds the second time."""
    raise self.replace(chain(retry_once.si(folder, f"{name}-a"), retry_once.si(folder, f"{name}-b")))


@shared_task(name="probe.best_effort", durable=False)
def best_effort(folder: str, name: str) -> None:
    """Run without the ledger."""
    note(folder, name)


@shared_task(name="probe.out_of_memory")
def out_of_memory() -> None:
    """Raise what ends a stock worker."""
    raise MemoryError("no more")


@shared_task(name="probe.ignore_soft_limit")
def ignore_soft_limit() -> None:
    """Go on after the soft time limit."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        with suppress(SoftTimeLimitExceeded):
            time.sleep(1)


if pace := float(os.environ.get("PROBE_PAGE_SECONDS", "0")):
    draw_page = pdf._page

    def draw_page_slowly(*args) -> None:
        """Take so long that a test can look at a report while it is made."""
        time.sleep(pace)
        draw_page(*args)

    pdf._page = draw_page_slowly

if "PROBE_DEAF" in os.environ:

    @task_prerun.connect
    def hear_no_soft_limit(**_) -> None:
        """Leave the end of a task to the hard limit, from its first line on."""
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
