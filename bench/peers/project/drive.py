"""What a sender does, in the peers' environment: `python drive.py VERB ...`. Each answer is a line of JSON.

describe                  what the adapter says of itself
send BODY QUEUE ONE MANY  milliseconds of a single call, and calls a second of the bulk call
hear QUEUE COUNT          milliseconds from each call to the start of its task, one task at a time
feed                      for each line "first count" on standard input: `effect` for so many numbers, or without a count
                          for one number a second from there on
"""

import importlib
import json
import os
import random
import socket
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import django

WARM_UP = 10

django.setup()
peer = importlib.import_module(f"adapters.{os.environ['BENCH_PEER']}")


def describe() -> None:
    answer(
        name=peer.NAME,
        keeps=peer.KEEPS,
        back=peer.BACK,
        safe=peer.SAFE,
        versions={package: installed(package) for package in peer.PACKAGES},
        django=django.__version__,
        python=".".join(map(str, sys.version_info[:3])),
        workers={
            queue: {slots: peer.workers(queue, slots) for slots in (1, 2)} for queue in ("default", "high", "low")
        },
        beside=peer.BESIDE,
    )


def installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "this checkout"


def send(body: str, queue: str, one: str, many: str) -> None:
    def singly(count: int) -> None:
        for number in range(count):
            peer.enqueue(body, number, queue)

    # What is connected and imported at the first call is no part of a call.
    singly(WARM_UP)
    answer(
        one=1000 / rate(singly, int(one)),
        many=rate(lambda count: peer.enqueue_many(body, range(count), queue), int(many)),
    )


def rate(call: Callable[[int], None], count: int) -> float:
    started = time.perf_counter()
    call(count)
    return count / (time.perf_counter() - started)


def hear(queue: str, count: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(os.environ["BENCH_HEARD"])
        # Workers may be starting.
        ear.settimeout(60)
        heard = []
        for _ in range(int(count) + WARM_UP):
            peer.enqueue("hear", time.monotonic(), queue)
            heard.append(1000 * float(ear.recv(100)))
            # At no fixed distance from what a worker that polls does next.
            time.sleep(random.uniform(0.02, 0.2))
    answer(milliseconds=heard[WARM_UP:])


def feed() -> None:
    for line in sys.stdin:
        first, *counts = map(int, line.split())
        for count in counts:
            peer.enqueue_many("effect", range(first, first + count), "default")
            answer(sent=count)
        while not counts:
            peer.enqueue("effect", first, "default")
            first += 1
            time.sleep(1)


def answer(**fields: Any) -> None:
    print(json.dumps(fields), flush=True)


if __name__ == "__main__":
    {"describe": describe, "send": send, "hear": hear, "feed": feed}[sys.argv[1]](*sys.argv[2:])
