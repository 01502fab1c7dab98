"""Waiting for what a test has caused."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(
    condition: Callable[[], T], what: str | Callable[[], str], *, seconds: float = 30, pause: float = 0.05
) -> T:
    """Return the condition's first true value; fail with what was waited for."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"after {seconds:g} s still not: {what if isinstance(what, str) else what()}")
        time.sleep(pause)


def during(seconds: float, do: Callable[[], object] | None = None) -> None:
    """Let the fault last."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if do:
            do()
        time.sleep(min(0.2, max(0.0, deadline - time.monotonic())))
