"""Finds which TCP ports of an address answer; sent over ssh to the host that scans.

    python3 scan.py ADDRESS WITNESS_PORT

Prints {"open": [...], "refused": [...]}: refused ports are closed, yet their host answers there; on
all others there was silence. WITNESS_PORT must be open: when it stops answering the host is gone,
and the scan ends there and then rather than knock at whoever has the address next.
"""

# ruff: noqa: T201 - a command prints

from __future__ import annotations

import errno
import json
import os
import resource
import select
import socket
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

PORTS = range(1, 65536)
AT_ONCE = 6000
# The networks of test hosts answer within a millisecond, on a machine that is not busy.
PATIENCE = 1.5
ANSWERS = {0: "open", errno.ECONNREFUSED: "refused"}


def knock(address: str, ports: Sequence[int]) -> dict[int, str]:
    """Say of each port that answers whether it is open or refused."""
    answers: dict[int, str] = {}
    poll = select.poll()
    with ExitStack() as stack:
        asked: dict[int, tuple[int, socket.socket]] = {}
        for port in ports:
            knocker = stack.enter_context(socket.socket())
            knocker.settimeout(0)
            error = knocker.connect_ex((address, port))
            if error == errno.EINPROGRESS:
                asked[knocker.fileno()] = (port, knocker)
                poll.register(knocker, select.POLLOUT)
            else:
                answers[port] = ANSWERS[error]
        deadline = time.monotonic() + PATIENCE
        while asked and (left := deadline - time.monotonic()) > 0:
            for descriptor, _ in poll.poll(left * 1000):
                port, knocker = asked.pop(descriptor)
                poll.unregister(descriptor)
                error = knocker.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if error not in ANSWERS:
                    sys.exit(f"{address}:{port}: {os.strerror(error)}")
                answers[port] = ANSWERS[error]
    return answers


def scan(address: str, witness: int) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {"open": [], "refused": []}
    for first in range(PORTS.start, PORTS.stop, AT_ONCE):
        if knock(address, [witness]) != {witness: "open"}:
            sys.exit(f"{address}:{witness} does not answer: the host is gone, the scan stops at port {first}")
        for port, answer in knock(address, range(first, min(first + AT_ONCE, PORTS.stop))).items():
            found[answer].append(port)
    return {answer: sorted(ports) for answer, ports in found.items()}


if __name__ == "__main__":
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    print(json.dumps(scan(sys.argv[1], int(sys.argv[2]))))
