"""The fault injection points: a process dies before or after the call that the environment names, once."""

import functools
import importlib
import os
import signal
from pathlib import Path
from typing import Any

from django.apps import AppConfig


class FaultProbeConfig(AppConfig):
    """Installed after Drumline, so that what it defines is there."""

    name = "faultprobe"

    def ready(self) -> None:
        """Put the crash in place: FAULTS_CRASH is `module:qualified.name:before|after:number of the call`."""
        if point := os.environ.get("FAULTS_CRASH"):
            crash_at(point, Path(os.environ["FAULTS_CRASHED"]))


def crash_at(point: str, crashed: Path) -> None:
    """Replace the function; the file says that it happened, and keeps it from happening again."""
    module, path, when, number = point.split(":")
    owner: Any = importlib.import_module(module)
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    original = getattr(owner, name)
    calls = 0

    def die() -> None:
        try:
            crashed.touch(exist_ok=False)
        except FileExistsError:
            return
        os.kill(os.getpid(), signal.SIGKILL)

    @functools.wraps(original)
    def crashing(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        reached = calls >= int(number)
        if reached and when == "before":
            die()
        result = original(*args, **kwargs)
        if reached and when == "after":
            die()
        return result

    setattr(owner, name, crashing)
