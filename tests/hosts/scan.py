"""Finds which TCP ports of an address answer; sent over ssh to the host that scans.

    python3 scan.py ADDRESS WITNESS_PORT

Prints {"open": [...], "refused": [...]}: refused ports are closed, yet their host answers there; on
all others there was silence. WITNESS_PORT must be open: when it stops answering the host is gone,
and the scan ends there and then rather than knock at whoever has the address next.
"""

# ruff: noqa: T201 - a command prints

from __future__ import annotations

import asyncio
import json
import resource
import sys

PORTS = range(1, 65536)
AT_ONCE = 3000
# The networks of test hosts answer within a millisecond.
PATIENCE = 1.5


async def knock(address: str, port: int) -> str:
    try:
        async with asyncio.timeout(PATIENCE):
            _, writer = await asyncio.open_connection(address, port)
    except TimeoutError:
        return "silent"
    except ConnectionRefusedError:
        return "refused"
    writer.close()
    return "open"


async def scan(address: str, witness: int) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {"open": [], "refused": [], "silent": []}
    for first in range(PORTS.start, PORTS.stop, AT_ONCE):
        if await knock(address, witness) != "open":
            sys.exit(f"{address}:{witness} does not answer: the host is gone, the scan stops at port {first}")
        ports = range(first, min(first + AT_ONCE, PORTS.stop))
        for port, answer in zip(ports, await asyncio.gather(*(knock(address, port) for port in ports)), strict=True):
            found[answer].append(port)
    return {"open": found["open"], "refused": found["refused"]}


if __name__ == "__main__":
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    print(json.dumps(asyncio.run(scan(sys.argv[1], int(sys.argv[2])))))
